"""What a person does on the Compare page, done in Chromium against a real server with the default model."""

from __future__ import annotations

import re
import time
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest

from at2_core import exploration as explorations
from tests.browser.own_text import fill_in

EXAMPLE = "bees"
HOSTILE = '<script>top.pwned=1</script> <img src=x onerror="top.pwned=1"> ![i](http://evil.example/i.png) <|im_end|>'
MINUTES = 240_000  # ms: loading the model on a busy machine


@pytest.fixture(scope="module")
def exploration():
    return explorations.load_example(EXAMPLE)


@pytest.fixture
def compare(visit):
    """`compare("unit=token")` opens the page on one example, every method that costs nothing drawn."""

    def opened(query: str = "", **options):
        return ready(visit(f"compare?example={EXAMPLE}&{query}", **options))

    return opened


def ready(seen):
    seen.page.locator(".at2.compare .method .heat .scores path").first.wait_for(
        state="attached", timeout=MINUTES
    )
    return seen


def address(seen) -> dict[str, str]:
    params = parse_qs(urlparse(seen.page.evaluate("location.href")).query)
    return {key: values[0] for key, values in params.items() if key != "example"}


def becomes(read, wanted, seconds: float = 60) -> None:
    """Waits until read() is what is wanted; the failure shows both."""
    end = time.monotonic() + seconds
    while read() != wanted and time.monotonic() < end:
        time.sleep(0.1)
    assert read() == wanted


def firsts(seen) -> list[list[str]]:
    """The values of the first three sources, by column."""
    rows = seen.page.locator(".method .top").all()
    return [row.locator("li:visible .value").all_inner_texts() for row in rows]


def expected(exploration, method: str, rows: slice) -> list[str]:
    """The same, from the exploration's own numbers."""
    per_token = exploration.scores[method][rows].mean(axis=0)
    values = np.array([per_token[s.token_start : s.token_end].sum() for s in exploration.sources["sentence"]])
    best = np.sort(values)[::-1][:3] / np.abs(values).max()
    return [f"{'−' if v < -0.004 else ''}{abs(v):.2f}" for v in best]


def rows_of(exploration, sentence: int) -> slice:
    start, end = exploration.sentences[sentence]
    own = [
        t for t, (a, b) in enumerate(exploration.response_offsets)
        if start <= a + len(exploration.text[a:b]) - len(exploration.text[a:b].lstrip()) < end
    ]  # fmt: skip
    return slice(own[0], own[-1] + 1)


def test_hovering_the_response_colours_every_column_at_once_and_a_click_pins(compare, exploration):
    seen = compare("methods=at2,average")
    page, two = seen.page, rows_of(exploration, 1)
    methods = ("at2", "average")
    becomes(lambda: firsts(seen), [expected(exploration, m, slice(None)) for m in methods])
    # Once the seconds that both took have come, nobody asks the server any more.
    becomes(lambda: sum(" s" in cost for cost in page.locator(".cost").all_inner_texts()), 2, MINUTES / 1000)
    page.wait_for_timeout(1500)
    told = len(seen.sent)
    page.locator(".response .sentence").nth(1).hover()
    becomes(lambda: firsts(seen), [expected(exploration, m, two) for m in methods])
    page.locator(".method .source").first.hover()  # in one column, and the same source is marked in both
    becomes(lambda: page.locator(".method .heat path.picked:not(.fill)").evaluate_all(
        "(paths) => paths.filter((p) => p.getAttribute('d')).length"), 2)  # fmt: skip
    assert page.locator(".tip").inner_text().count("rank") == 2
    assert len(seen.sent) == told
    page.locator(".response .sentence").nth(1).click()
    becomes(lambda: address(seen), {"methods": "at2,average", "pin": f"{two.start}-{two.stop - 1}"})
    page.mouse.move(5, 5)
    becomes(lambda: firsts(seen), [expected(exploration, m, two) for m in methods])
    page.reload()
    ready(seen)
    becomes(lambda: firsts(seen), [expected(exploration, m, two) for m in methods])
    page.locator(".response").press("Escape")
    becomes(lambda: address(seen), {"methods": "at2,average"})
    becomes(lambda: firsts(seen), [expected(exploration, m, slice(None)) for m in methods])
    assert not seen.strangers()
    assert not seen.errors


def test_by_keyboard_and_all_columns_scroll_together(compare, exploration):
    seen = compare("methods=at2,average,bm25", height=640)
    page = seen.page
    page.locator(".method .source").nth(2 * len(exploration.sources["sentence"])).wait_for(
        timeout=MINUTES
    )  # BM25's
    page.locator(".response").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    two = rows_of(exploration, 1)
    becomes(lambda: address(seen).get("pin"), f"{two.start}-{two.stop - 1}")
    panes = page.locator(".method .text")
    panes.nth(1).focus()
    page.keyboard.press("End")
    becomes(lambda: page.locator(".unseen").inner_text().startswith("Sentence 9: AT2 "), True)
    tops = lambda: panes.evaluate_all("(panes) => panes.map((pane) => pane.scrollTop)")  # noqa: E731
    becomes(lambda: len(set(tops())) == 1 and tops()[0] > 0, True)


def test_a_costly_method_survives_a_reload_and_quality_is_measured(visit):
    seen = ready(visit("compare?example=lighthouse&methods=average,context_cite_32"))
    page = seen.page
    assert page.get_by_text("ContextCite 32: 32 forward passes").is_visible()
    page.get_by_role("button", name="Compute").click()
    page.get_by_role("button", name="Stop").or_(page.locator(".method .top:visible").nth(1)).first.wait_for()
    page.reload()
    ready(seen)
    page.locator(".method .top:visible").nth(1).wait_for(timeout=MINUTES)
    assert page.locator(".method .cost").nth(1).inner_text().startswith("32 forward passes · ")
    page.get_by_role("button", name="Measure").click()
    page.get_by_text("LDS: how well scores predict").wait_for(timeout=MINUTES)
    assert not seen.errors


def test_the_difference_is_one_minus_the_other_and_stays_over_a_reload(compare, exploration):
    seen = compare("methods=at2,average")
    page = seen.page
    page.get_by_text("Difference", exact=True).click()
    becomes(lambda: address(seen).get("difference"), "at2,average")
    assert page.get_by_text("blue = more by AT2, red = more by Average attention").is_visible()

    def differences():
        rows = page.locator(".differences li:visible").all()
        return [
            [row.locator(c).inner_text().replace("−", "-") for c in (".one", ".other", ".by")] for row in rows
        ]

    becomes(lambda: len(differences()), len(exploration.sources["sentence"]))
    found = np.array(differences(), float)
    assert np.abs(found[:, 0] - found[:, 1] - found[:, 2]).max() <= 0.0151  # each has two digits
    assert (np.diff(np.abs(found[:, 2])) <= 0).all()
    page.get_by_label("One method").select_option("average")
    becomes(lambda: address(seen).get("difference"), "average,at2")
    page.reload()
    page.get_by_text("blue = more by Average attention, red = more by AT2").wait_for(timeout=MINUTES)
    becomes(lambda: np.array(differences(), float).tolist(), (found[:, [1, 0, 2]] * [1, 1, -1]).tolist())
    assert not page.locator(".method").first.is_visible()
    assert not seen.errors


def test_when_a_method_of_the_difference_is_removed_the_address_says_what_is_shown_instead(visit):
    seen = visit(f"compare?example={EXAMPLE}&methods=at2,average,bm25&difference=bm25,at2")
    page = seen.page
    page.get_by_text("blue = more by BM25, red = more by AT2").wait_for(timeout=MINUTES)
    option = page.get_by_label("One method").locator("option").first
    option.evaluate("(node) => { node.drawn = 1; }")
    page.locator(".response .sentence").nth(1).click()
    becomes(lambda: "pin" in address(seen), True)
    page.wait_for_timeout(500)
    assert option.evaluate("(node) => node.drawn") == 1  # a list that is open is not exchanged
    page.get_by_test_id("stMultiSelect").locator("input").press("Backspace")  # the last one, BM25
    page.get_by_text("blue = more by AT2, red = more by Average attention").wait_for(timeout=MINUTES)
    becomes(lambda: address(seen).get("difference"), "at2,average")
    assert address(seen)["methods"] == "at2,average"
    assert not seen.errors


def test_nobodys_text_is_more_than_text(visit):
    seen = visit("?run=new")
    page = seen.page
    fill_in(page, title=HOSTILE, text=f"{HOSTILE} One. Two.", query=HOSTILE, response=HOSTILE)
    page.get_by_role("button", name="Attribute").click()
    page.locator(".response .u").first.wait_for(timeout=MINUTES)
    run = parse_qs(urlparse(page.url).query)["run"][0]
    page.goto(f"{seen.address}/compare?run={run}&methods=<script>,at2,average&granularity=%27&difference=<b>")
    ready(seen)
    page.locator(".response .u").first.hover()
    page.get_by_text("Difference", exact=True).click()
    page.get_by_text(re.compile("blue = more by")).wait_for()
    assert page.evaluate("top.pwned") is None
    assert not page.locator(".at2 img, .at2 script, .at2 a").count()
    assert not seen.strangers()
    assert not seen.dialogs
    assert not seen.errors
