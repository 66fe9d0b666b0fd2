"""Verify as a person goes through it, in Chromium, with the default model: remove, reload in the middle, check, stop."""

from __future__ import annotations

import base64
import re
import time

from pages.ui.component import script
from tests.browser.own_text import fill_in

HOSTILE = '<script>top.pwned=1</script> <img src=x onerror="top.pwned=1"> ![i](http://evil.example/i.png)'
MINUTES = 240_000  # ms: on a busy machine
NUMBER = "?example=library"  # opens with its number pinned, by words


def ready(seen):
    """At the section, with the model there."""
    page = seen.page
    page.locator(".response .u").first.wait_for(timeout=MINUTES)
    page.get_by_role("link", name="Verify").click()
    page.get_by_text("is ready").wait_for(timeout=MINUTES)
    page.locator(".st-key-verify-remove button:enabled").wait_for(timeout=MINUTES)
    return page


def press(page, name: str) -> None:
    page.get_by_role("button", name=name).click()


def eventually(page, condition, what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        page.wait_for_timeout(100)


def nats(page, kind: str) -> float:
    text = page.locator(f".vf .{kind} .value").inner_text()
    return float(re.match(r"−?[\d.]+", text)[0].replace("−", "-"))


def test_without_its_source_the_number_is_gone_and_a_reload_in_the_middle_loses_nothing(visit):
    seen = visit(NUMBER + "&remove=1")
    page = ready(seen)
    section = page.locator("#verify")
    eventually(page, lambda: 0 <= section.bounding_box()["y"] < 720, "the link does not lead to the section")
    press(page, "Remove and measure")
    page.get_by_role("button", name="Stop").wait_for()
    page.reload()
    verdict = page.locator(".vf .said.changed")
    verdict.wait_for(timeout=MINUTES)
    assert verdict.inner_text() == "Without this word the pinned words are gone from the answer."
    assert page.locator(".vf del").all_inner_texts() == ["31,600"]
    assert "31,600" not in page.locator(".vf .answer .text").nth(1).inner_text()
    assert page.locator(".vf ins").count()
    assert page.locator(".vf .removal q").inner_text() == "31,600"
    assert re.search(
        r"the pinned words are 1/[\d,.]+ as likely", page.locator(".vf .said").first.inner_text()
    )
    assert nats(page, "measured") > 2 > nats(page, "random")
    assert page.locator(".vf .random .dot").count() == 5
    page.get_by_role("button", name="Stop").wait_for(state="detached")
    page.wait_for_timeout(1500)
    messages = len(seen.sent)
    page.wait_for_timeout(2500)
    assert len(seen.sent) == messages, "the page still asks, though nothing runs"
    assert not seen.strangers()
    assert not seen.errors


def test_a_check_tells_its_correlation_and_belongs_to_what_is_pinned(visit):
    seen = visit(NUMBER + "&granularity=sentence", color_scheme="dark")
    page = ready(seen)
    press(page, "Check these scores on this example")
    page.locator(".vf circle").first.wait_for(timeout=MINUTES)
    assert page.locator(".vf circle").count() == 32
    said = page.locator(".vf .checked .said").inner_text()
    found = re.fullmatch(r"On this example .* with correlation (−?[\d.]+)\.", said)
    assert -1 <= float(found[1].replace("−", "-")) <= 1
    meaning = page.locator(".vf .words").inner_text()
    assert re.search("shuffled over the sources, reach −?[0-9.]+ on average", meaning)
    assert re.search("trust|hint|coarse", meaning)
    page.locator(".response .u").nth(1).click()  # another pin
    page.locator(".vf circle").first.wait_for(state="detached")
    page.goto(f"{seen.address}/{NUMBER}&granularity=sentence")
    page.locator(".vf circle").first.wait_for(timeout=MINUTES)
    assert page.locator(".vf .checked .said").inner_text() == said
    assert not seen.errors


def test_looking_goes_on_while_the_model_measures_and_stop_stops_it(visit):
    seen = visit("?example=lighthouse&remove=3&granularity=token")
    page = ready(seen)
    colours = (
        "[...document.querySelectorAll('*')].flatMap((e) => [...(e.shadowRoot?.querySelectorAll('.scores path') ?? [])])"
        ".filter((p) => p.style.fillOpacity > 0).map((p) => p.getAttribute('d') + p.style.fillOpacity).sort().join()"
    )
    press(page, "Remove and measure")
    press(page, "Check these scores on this example")
    stop = page.get_by_role("button", name="Stop")
    stop.nth(1).wait_for()
    before = page.evaluate(colours)
    page.locator(".response .sentence").nth(1).locator(".u").nth(1).hover()
    eventually(page, lambda: page.evaluate(colours) != before, "the colours did not change", 5)
    stop.nth(1).click()  # the check, which waits for the removal
    page.get_by_text("The check was stopped; press its button").wait_for()
    stop.click()
    page.get_by_text("The removal was stopped; press its button").wait_for()
    stop.wait_for(state="detached")
    assert page.locator(".st-key-verify-check button:enabled").count()
    assert not seen.errors


def test_hostile_text_stays_text(visit):
    seen = visit("?run=new")
    page = seen.page
    fill_in(page, title=HOSTILE, text=f"{HOSTILE}. The dog sleeps.", query="What?", response=HOSTILE)
    page.get_by_role("button", name="Attribute").click()
    ready(seen)
    press(page, "Remove and measure")
    page.locator(".vf .answers").wait_for(timeout=MINUTES)
    page.get_by_role("button", name="Stop").click()
    assert "<script>" in page.locator(".vf .removal q").first.inner_text()
    assert page.evaluate("top.pwned") is None
    assert not page.locator(".vf img, .vf script, .vf a").count()
    assert not seen.strangers()
    assert not seen.dialogs
    assert not seen.errors


MODULE = "data:text/javascript;base64," + base64.b64encode(script("mount", "verify").encode()).decode()
STREAM = """async (module) => {
  const show = (await import(module)).default, parentElement = document.createElement("div");
  document.body.append(parentElement);
  const answer = (words, streaming) => ({ title: "Answer", note: "", words, streaming });
  const drawn = () => new Promise((done) => setTimeout(done)); // a call waits for its turn
  const draw = (headline, words, streaming) => show({ parentElement, setTriggerValue() {}, data: {
    lines: [], check: null,
    removal: { removed: { title: "", note: "", items: [] }, drop: null, hint: "", answers: {
      headline, changed: !streaming, note: "",
      before: answer([["The dog sleeps.", "same", false]], false), after: answer(words, streaming) } } } });
  const parts = ["[role=status]", ".answers > .said", ".answer:last-child .text"];
  const found = () => parts.map((part) => parentElement.querySelectorAll(part));
  const said = [], texts = [];
  draw("Without it the model says…", [["The ", "same", false]], true);
  await drawn();
  const first = found().map((nodes) => nodes[0]), kept = first[2].firstChild;
  for (const [headline, words, streaming] of [
    ["Without it the model says…", [["The ", "same", false], ["cat ", "new", false]], true],
    ["Gone.", [["The ", "same", false], ["cat runs.", "new", false]], false],
  ]) {
    draw(headline, words, streaming);
    await drawn();
    said.push(found()[0][0].textContent);
    texts.push(found()[2][0].textContent);
  }
  return { same: found().every((nodes, k) => nodes.length === 1 && nodes[0] === first[k]), kept: kept === first[2].firstChild,
           said, texts, marks: parentElement.querySelectorAll("ins").length, headline: first[1].className };
}"""


def test_an_answer_that_grows_keeps_its_elements_and_is_told_once_it_is_there(chromium):
    page = chromium.new_page()
    found = page.evaluate(STREAM, MODULE)
    page.close()
    assert found == {
        "same": True,
        "kept": True,
        "said": ["", "Gone."],
        "texts": ["The cat ", "The cat runs."],
        "marks": 1,
        "headline": "said changed",
    }
