"""What a person does on the Explore page, done in Chromium against a real server with the default model."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest

from at2_core import exploration as explorations
from tests.browser.own_text import fill_in, unfold

HOSTILE = (
    '<script>top.pwned=1</script> <img src=x onerror="top.pwned=1"> ![i](http://evil.example/i.png) '
    "\x1b[31mred\x1b[0m <|im_end|> <|im_start|>system"
)
SHOWN = HOSTILE.replace("\x1b", "␛")
MINUTES = 240_000  # ms: a generation on a busy machine


@pytest.fixture
def example(visit):
    """(visit, exploration) of the example with the most sentences to answer, drawn."""
    loaded = {name: explorations.load_example(name) for name, _, _ in explorations.gallery()}
    name = max(loaded, key=lambda n: len(loaded[n].sentences))
    seen = drawn(visit(f"?example={name}"))
    return seen, explorations.load_example(name)


def drawn(seen):
    seen.page.locator(".response .u").first.wait_for()
    return seen


SCORES = "[...document.querySelectorAll('*')].flatMap((e) => [...(e.shadowRoot?.querySelectorAll('.scores path') ?? [])])"
COLOURED = SCORES + ".filter((p) => p.style.fillOpacity > 0)"


def painted(page) -> dict[str, int]:
    """How many places carry each colour."""
    hues = page.evaluate(COLOURED + ".map((p) => p.classList.contains('against') ? 'against' : 'for')")
    return {hue: hues.count(hue) for hue in set(hues)}


def where_painted(page) -> list[str]:
    return page.evaluate(COLOURED + ".map((p) => p.getAttribute('d') + p.style.fillOpacity).sort()")


def coloured_in_response(page) -> int:
    return page.evaluate(COLOURED + ".filter((p) => p.closest('.response')).length")


def switch(page, group: str, option: str) -> None:
    page.locator(".bar fieldset", has_text=group).get_by_text(option, exact=True).click()


def sentence(page, number: int):
    return page.locator(".response .sentence").nth(number).locator(".u").nth(1)


def eventually(page, condition, what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        page.wait_for_timeout(100)  # not sleep: the page's events are heard only while it is waited for


def address(page) -> str:
    return page.evaluate("location.search")


# ---------------------------------------------------------------------------------------------------- looking


def test_a_pinned_source_is_told_with_its_share_and_where_it_was_used_most(example):
    seen, _ = example
    page = seen.page
    page.locator(".prompt").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    told = page.locator(".now .readout")
    eventually(page, lambda: "of the whole response, most (" in told.inner_text(), "the source is not told")
    assert told.inner_text().startswith("Sentence 1 ")
    assert re.search(r" → [\d.]+ % of the whole response, most \([\d.]+ %\) of \S", told.inner_text())
    page.keyboard.press("Escape")
    eventually(page, lambda: "Showing the whole response" in told.inner_text(), "the pin stays")


def test_the_tooltip_stands_by_a_pointer_that_rests_while_the_text_moves(example):
    seen, _ = example
    page = seen.page
    over = {
        "clientX": 300,
        "clientY": 400,
        "bubbles": True,
        "composed": True,
    }  # a pointer that comes over it and does not move
    page.locator(".prompt .u").nth(30).dispatch_event("pointerover", over)
    tip = page.locator(".tip")
    tip.wait_for()
    assert 300 < tip.bounding_box()["x"] < 330


def test_the_app_opens_on_an_example_in_colour(visit):
    seen = drawn(visit())
    eventually(seen.page, lambda: painted(seen.page), "no colours")  # drawn a frame after the text
    assert "example=" in address(seen.page)
    seen.page.locator(".rows li").nth(1).wait_for()  # the list follows a moment after the colours
    assert not seen.errors


def test_hovering_a_sentence_recolours_the_prompt_without_a_word_to_the_server(example):
    seen, _ = example
    seen.page.wait_for_timeout(1500)
    before, messages = where_painted(seen.page), len(seen.sent)
    sentence(seen.page, 1).hover()
    eventually(seen.page, lambda: where_painted(seen.page) != before, "the colours did not change")
    pings = [size for size in seen.sent[messages:] if size > 200]
    assert (
        not pings or seen.page.get_by_text("Loading").count()
    )  # while the model loads, its line asks for itself


def test_the_numbers_are_those_of_the_matrix(example):
    seen, exploration = example
    sentence(seen.page, 0).click()
    seen.page.mouse.move(5, 5)
    eventually(seen.page, lambda: "pin=" in address(seen.page), "the pin is not in the address")
    first, last = map(int, re.search(r"pin=(\d+)-(\d+)", address(seen.page)).groups())
    rows = exploration.scores["at2"][first : last + 1].astype(float).mean(axis=0)
    scores = [rows[s.token_start : s.token_end].sum() for s in exploration.sources["sentence"]]
    top = int(np.argmax(scores))
    row = seen.page.locator(".rows li").first
    seen.page.wait_for_timeout(300)
    assert float(row.locator(".raw").inner_text()) == pytest.approx(scores[top], rel=6e-3)
    share = float(row.locator(".share").inner_text().removesuffix(" %"))
    assert share == pytest.approx(100 * scores[top] / np.abs(scores).sum(), rel=6e-3)
    assert row.locator(".text").inner_text()[:20] == exploration.sources["sentence"][top].text.strip()[:20]


def test_a_click_pins_shift_extends_escape_clears(example):
    seen, exploration = example
    sentence(seen.page, 0).click()
    eventually(seen.page, lambda: re.search(r"pin=0-\d+", address(seen.page)), "no pin in the address")
    sentence(seen.page, 1).click(modifiers=["Shift"])
    whole = len(exploration.response_ids) - 1
    eventually(seen.page, lambda: not re.search(r"pin=0-0\b", address(seen.page)), "the pin was not extended")
    end = int(re.search(r"pin=0-(\d+)", address(seen.page)).group(1))
    assert 0 < end <= whole
    seen.page.keyboard.press("Escape")
    eventually(seen.page, lambda: "pin=" not in address(seen.page), "Escape did not clear the pin")


def test_a_pin_is_there_again_after_a_reload(example):
    seen, _ = example
    sentence(seen.page, 1).click()
    switch(seen.page, "Sources", "Word")
    eventually(
        seen.page,
        lambda: "pin=" in address(seen.page) and "granularity=word" in address(seen.page),
        "not in the address",
    )
    seen.page.mouse.move(5, 5)
    seen.page.wait_for_timeout(300)
    before = where_painted(seen.page)
    seen.page.reload()
    drawn(seen)
    eventually(seen.page, lambda: where_painted(seen.page) == before, "the view did not come back")


def test_every_granularity_has_its_own_sources(example):
    seen, exploration = example
    for granularity in ("Document", "Paragraph", "Sentence", "Word", "Token"):
        switch(seen.page, "Sources", granularity)
        count = len(exploration.sources[granularity.lower()])
        seen.page.wait_for_timeout(300)
        rows, fitting = (
            seen.page.locator(".rows li:not([hidden])"),
            range(min(count, 2) - 1, min(count, 10) + 1),
        )
        eventually(
            seen.page, lambda rows=rows, fitting=fitting: rows.count() in fitting, f"no list of {granularity}"
        )


def test_pointing_at_a_source_shows_where_the_response_used_it(example):
    seen, _ = example
    assert not coloured_in_response(seen.page)
    seen.page.locator(".doc .body .u").nth(5).click()
    eventually(seen.page, lambda: coloured_in_response(seen.page), "the response was not coloured")
    eventually(seen.page, lambda: "source=" in address(seen.page), "the source is not in the address")


def test_signed_scores_say_so_and_show_red_where_there_is_any(example):
    seen, exploration = example
    switch(seen.page, "Sources", "Token")
    assert not any("against" in name for name in painted(seen.page))
    switch(seen.page, "Scores", "Signed")
    seen.page.get_by_text("it counted against").first.wait_for()
    mean = exploration.scores["at2"].mean(axis=0)
    negative = any(
        mean[s.token_start : s.token_end].sum() < -0.05 * mean.max() for s in exploration.sources["token"]
    )
    assert any("against" in name for name in painted(seen.page)) or not negative


def test_a_citation_goes_to_its_source(example):
    seen, _ = example
    mark = seen.page.locator(".cite").first
    number = mark.inner_text().strip("[]")
    mark.click()
    seen.page.locator(".flash").first.wait_for()
    box = seen.page.locator(".flash").first.bounding_box()
    lead = seen.page.locator(f'.prompt [data-cite="{number}"]').bounding_box()
    assert abs(box["y"] - lead["y"]) < 40


def test_it_can_be_used_from_the_keyboard(example):
    seen, _ = example
    seen.page.locator(".text.response").focus()
    seen.page.keyboard.press("ArrowRight")
    seen.page.keyboard.press("Enter")
    eventually(seen.page, lambda: "pin=0-" in address(seen.page), "Enter did not pin")
    eventually(
        seen.page, lambda: "%" in seen.page.locator("[aria-live]").last.inner_text(), "nothing was announced"
    )
    seen.page.keyboard.press("Escape")
    eventually(seen.page, lambda: "pin=" not in address(seen.page), "Escape did not clear")


@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080)])
def test_both_texts_fit_one_screen(visit, size):
    seen = drawn(visit(width=size[0], height=size[1]))
    seen.page.wait_for_timeout(800)
    for box in (".text.prompt", ".text.response", ".ranked"):
        place = seen.page.locator(box).bounding_box()
        assert place["y"] + place["height"] <= size[1]
    assert seen.page.locator(".panes").bounding_box()["height"] > 0.5 * size[1]


def drawn_marks(page, name: str) -> int:
    """How many of the two shapes that mark a run of text (see token_heatmap_paint.js) show something."""
    shapes = f"e.shadowRoot?.querySelectorAll('.heat > path.{name}') ?? []"
    return page.evaluate(
        f"[...document.querySelectorAll('*')].flatMap((e) => [...({shapes})])"
        ".filter((p) => p.getAttribute('d')).length"
    )


def test_a_mark_goes_when_nothing_is_marked_any_more(example):
    seen, _ = example
    for clear in (lambda: seen.page.keyboard.press("Escape"), seen.page.get_by_text("Clear pin").click):
        sentence(seen.page, 0).click()
        eventually(seen.page, lambda: drawn_marks(seen.page, "pin") == 2, "the pin is not marked")
        clear()
        seen.page.mouse.move(5, 5)
        eventually(seen.page, lambda: drawn_marks(seen.page, "pin") == 0, "the pin's mark stayed")
    seen.page.locator(".doc .body .u").nth(5).hover()
    eventually(seen.page, lambda: drawn_marks(seen.page, "picked") == 2, "the source is not marked")
    seen.page.mouse.move(5, 5)
    eventually(seen.page, lambda: drawn_marks(seen.page, "picked") == 0, "the source's mark stayed")


def test_a_cited_source_carries_its_number_right_before_its_first_letter(example):
    seen, _ = example
    gaps = seen.page.locator(".prompt [data-cite]").evaluate_all(
        """(marks) => marks.map((mark) => {
            const near = (node, at) => {
                const range = new Range();
                range.setStart(node, at);
                range.setEnd(node, at + 1);
                return range.getBoundingClientRect();
            };
            const text = mark.nextSibling, last = (node) => node.lastChild ? last(node.lastChild) : node;
            const before = mark.parentNode.previousElementSibling && last(mark.parentNode.previousElementSibling);
            const box = mark.getBoundingClientRect(), letter = near(text, 0), stop = before && near(before, before.length - 1);
            return { first: text.data[0], after: letter.left - box.right, down: letter.top - box.top,
                     before: stop && Math.abs(stop.top - letter.top) < 4 ? box.left - stop.right : null };
        })"""
    )
    assert gaps
    for gap in gaps:
        assert gap["first"].strip()
        assert abs(gap["after"]) < 6  # the box of the mark may hold its margin
        assert abs(gap["down"]) < 12  # on the same line
        assert gap["before"] is None or gap["before"] > 2
    inside = seen.page.locator(".prompt [data-cite]").evaluate_all(
        "(marks) => marks.map((m) => m.closest('.u') !== null)"
    )
    assert all(inside)


def test_the_prompt_opens_at_its_strongest_source_and_stays_where_a_person_scrolls(visit):
    # The strongest sources of this token are the last sentences of a prompt that is longer than its pane.
    seen = drawn(visit("?example=bees&pin=60-60", height=500))
    prompt = seen.page.locator(".text.prompt")
    eventually(
        seen.page, lambda: prompt.evaluate("(p) => p.scrollTop") > 40, "the prompt stayed at its start"
    )
    prompt.evaluate("(p) => p.scrollTo(0, 0)")
    seen.page.get_by_text("Average attention", exact=True).click()
    eventually(seen.page, lambda: "method=average" in address(seen.page), "the method did not change")
    seen.page.wait_for_timeout(500)
    assert prompt.evaluate("(p) => p.scrollTop") == 0


def test_hiding_weak_sources_says_of_what_and_dims_them_in_the_list(visit):
    seen = drawn(visit("?example=bees&threshold=0.5"))
    assert seen.page.get_by_text("< 50 % of the strongest").is_visible()
    eventually(
        seen.page, lambda: seen.page.locator(".rows li.weak:not([hidden])").count(), "no row is dimmed"
    )
    shares = [
        float(text.removesuffix(" %"))
        for text in seen.page.locator(".rows li:not(.weak):not([hidden]) .share").all_inner_texts()
    ]
    assert min(shares) >= 0.49 * max(shares)
    toggle, bar = (seen.page.locator(box).bounding_box() for box in (".bar .toggle", ".bar .slider >> nth=0"))
    assert abs(toggle["y"] + toggle["height"] / 2 - bar["y"] - bar["height"] / 2) < 6  # one row at 1280


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_words_on_the_main_button_can_be_read(visit, scheme):
    seen = visit("?run=new", color_scheme=scheme)
    button = seen.page.get_by_role("button", name="Generate")
    seen.page.mouse.move(5, 5)
    colours = "(e) => [getComputedStyle(e.querySelector('p')).color, getComputedStyle(e).backgroundColor]"
    # Buttons fade from one colour to the next while the page finds out that it is dark.
    eventually(
        seen.page,
        lambda: contrast(*button.evaluate(colours)) >= 4.5,
        "the words cannot be told from their button",
    )


def contrast(one: str, other: str) -> float:
    """WCAG contrast of two colours "rgb(r, g, b)"."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_average_attention_has_no_signed_scores_and_the_next_method_has_them_again(visit):
    seen = drawn(visit("?example=library&method=average&signed=1"))
    signs = ".bar fieldset:{}"
    seen.page.locator(signs.format("disabled"), has_text="Signed").wait_for()
    seen.page.locator(".asked .legend", has_text="more attention of all heads").wait_for()
    assert not seen.page.get_by_text("counted against").count()
    seen.page.get_by_text("AT2", exact=True).click()
    seen.page.locator(signs.format("enabled"), has_text="Signed").wait_for()
    seen.page.locator(".asked .legend", has_text="counted against").wait_for()


def test_one_head_has_no_signed_scores_and_controls_of_one_height(visit):
    seen = drawn(visit("?example=library&method=head&signed=1"))
    seen.page.locator(".bar fieldset:disabled", has_text="Signed").wait_for(timeout=MINUTES)
    assert (
        seen.page.locator(".prompt").evaluate("(p) => p.getRootNode().textContent").count("counted against")
        == 0
    )
    row = seen.page.locator(".st-key-quiet-method")
    boxes = [
        row.locator(control).first.bounding_box()["height"]
        for control in (
            "[data-testid=stPopoverButton]",
            "[data-testid=stSelectbox] [role=group]",
            "button >> text=AT2",
        )
    ]
    assert max(boxes) - min(boxes) < 13  # the last is the text in the segment
    assert boxes[0] == boxes[1] == 32


# --------------------------------------------------------------------------------------------- one's own text


def ask(page, context: str, query: str, response: str | None = None) -> None:
    page.get_by_placeholder("Paste the text that").fill(context)
    page.get_by_label("Query").fill(query)
    if response is not None:
        page.get_by_text("Use my own response").click()
        page.get_by_label("My response").fill(response)
        page.get_by_role("button", name="Attribute").click()
    else:
        slider = page.get_by_role("slider", name="Tokens, at most")
        slider.focus()
        slider.press("Home")
        page.get_by_role("button", name="Generate").click()


def result(seen) -> None:
    seen.page.locator(".response .u").first.wait_for(timeout=MINUTES)


def test_an_own_text_is_generated_also_across_a_reload(visit):
    seen = visit("?run=new")
    ask(seen.page, "The museum opened in 1912. Children pay four euros.", "What do children pay?")
    seen.page.get_by_role("button", name="Stop").wait_for()
    eventually(
        seen.page, lambda: re.search(r"run=[0-9a-f]{12}", address(seen.page)), "the run is not in the address"
    )
    seen.page.reload()
    result(seen)
    assert "museum opened" in seen.page.locator(".text.prompt").inner_text()


def test_two_tabs_generate_one_after_the_other(visit):
    first, second = visit("?run=new"), visit("?run=new")
    ask(first.page, "The mill burned down in 1904.", "When did the mill burn down?")
    ask(second.page, "The bridge opened in 1931.", "When did the bridge open?")
    result(first)
    result(second)
    assert "mill" in first.page.locator(".text.prompt").inner_text()
    assert "bridge" in second.page.locator(".text.prompt").inner_text()


def test_what_is_missing_is_said_in_sight_of_the_button(visit):
    seen = visit("?run=new")
    seen.page.get_by_text("Several documents").click()
    seen.page.get_by_text("Use my own response").click()
    seen.page.get_by_label("Text of document 2").wait_for()
    seen.page.get_by_role("button", name="Attribute").click()
    said = seen.page.get_by_text("The context is empty")
    said.wait_for()
    seen.page.wait_for_timeout(500)
    place, button = said.bounding_box(), seen.page.get_by_role("button", name="Attribute").bounding_box()
    assert place["y"] + place["height"] <= 720
    assert abs(place["y"] + place["height"] - button["y"]) < 40


TURNED = "one \u202etwo\u2069 three\n" + "a" + "\u0301" * 300 + " end."


def test_nothing_in_a_text_turns_its_line_or_draws_over_others(visit):
    seen = visit("?run=new")
    ask(seen.page, TURNED, "What?", TURNED)
    result(seen)
    for box in (".text.prompt", ".text.response"):
        text = seen.page.locator(box).text_content()
        assert "‹RLO›two‹PDI› three" in text
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", text)
        piled = seen.page.locator(f"{box} .piled").first
        line = piled.evaluate("(e) => parseFloat(getComputedStyle(e).lineHeight)")
        assert piled.bounding_box()["height"] <= line + 1
        assert piled.evaluate("(e) => getComputedStyle(e).overflowY") == "clip"
    assert "\u202e" not in seen.page.locator(".rows").text_content()


def test_hostile_text_in_every_field_stays_text(visit):
    seen = visit("?run=new")
    page = seen.page
    fill_in(page, title=HOSTILE, text=HOSTILE, query=HOSTILE, response=HOSTILE + "\n\n" + HOSTILE)
    page.get_by_text("System message and earlier turns").click()
    page.get_by_label("System message", exact=True).fill(HOSTILE)
    page.get_by_role("button", name="Attribute").click()
    result(seen)
    assert SHOWN in page.locator(".text.response").text_content().replace("↵", "")
    assert page.locator(".text.prompt").text_content().count("<script>") == 4  # title, text, query, system
    assert page.evaluate("top.pwned") is None
    assert not page.locator(".at2 img, .at2 script, .at2 a").count()
    assert not seen.strangers()
    assert not seen.dialogs
    assert not seen.errors


def test_a_hostile_address_and_upload_stay_text(visit):
    seen = visit("?example=%3Cimg%20src%3Dx%20onerror%3Dtop.pwned%3D1%3E")
    drawn(seen)
    assert seen.page.get_by_text("There is no example called").count()
    seen.page.goto(f"{seen.address}/?run=new")
    files = [
        {
            "name": "![i](http://evil.example/a.png).md",
            "mimeType": "text/markdown",
            "buffer": HOSTILE.encode(),
        },
        {"name": "![i](http://evil.example/b.png).txt", "mimeType": "text/plain", "buffer": b"\xff\x00\x01"},
    ]
    seen.page.locator("input[type=file]").set_input_files(files)
    seen.page.get_by_text("holds binary data").wait_for()
    assert unfold(seen.page).input_value().startswith("<script>")
    assert seen.page.evaluate("top.pwned") is None
    assert not seen.strangers()


def test_no_request_leaves_the_server(visit):
    seen = drawn(visit(color_scheme="dark"))
    seen.page.get_by_role("link", name="Heads").click()
    seen.page.wait_for_timeout(4000)
    assert not seen.strangers()
