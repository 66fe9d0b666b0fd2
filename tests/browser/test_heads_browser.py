"""What a person does on the Heads page, done in Chromium against a real server with the default model."""

from __future__ import annotations

import re
import time
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest

from at2_core import exploration as explorations
from at2_core.estimator import load_estimator
from tests.browser.own_text import fill_in

EXAMPLE = "lighthouse"
HOSTILE = '<script>top.pwned=1</script> <img src=x onerror="top.pwned=1"> ![i](http://evil.example/i.png) <|im_end|>'
MINUTES = 240_000  # ms: loading the model on a busy machine


@pytest.fixture(scope="module")
def exploration():
    return explorations.load_example(EXAMPLE)


@pytest.fixture(scope="module")
def theta(exploration):
    return load_estimator(exploration.model).theta


@pytest.fixture
def heads(visit):
    """`heads("layer=3")` opens the page on one example, drawn."""

    def opened(query: str = "", **options):
        return ready(visit(f"heads?example={EXAMPLE}&{query}", **options))

    return opened


def ready(seen):
    seen.page.locator("div.hm[data-heads]").wait_for(timeout=MINUTES)
    seen.page.locator(".stPlotlyChart .nsewdrag").first.wait_for()
    return seen


def address(seen) -> dict[str, str]:
    params = {
        key: values[0]
        for key, values in parse_qs(urlparse(seen.page.evaluate("location.href")).query).items()
    }
    return {key: value for key, value in params.items() if key != "example"}


def shown(seen) -> str | None:
    return seen.page.locator("div.hm").get_attribute("data-heads")


def click_cell(seen, theta, layer: int, head: int, **options) -> None:
    grid = seen.page.locator(".stPlotlyChart .nsewdrag").first
    box, (layers, heads) = grid.bounding_box(), theta.shape
    at = {"x": (layer + 0.5) * box["width"] / layers, "y": (head + 0.5) * box["height"] / heads}
    grid.click(position=at, **options)


def matrix_box(seen, nth: int = 0) -> dict[str, float]:
    """The part of the plot that holds the matrix, in the plot's own coordinates."""
    return (
        seen.page.locator("div.hm .plot")
        .nth(nth)
        .evaluate(
            "(plot) => ({ left: 76, top: 22, width: plot.clientWidth - 76, height: plot.clientHeight - 22 })"
        )
    )


def column_ink(seen, column: int, columns: int) -> float:
    """How far one column of the matrix is from the background, 0 to 255, mean over its pixels."""
    return seen.page.locator("div.hm .plot canvas").first.evaluate(
        """(canvas, [column, columns]) => {
            const ratio = devicePixelRatio, ink = canvas.getContext("2d"), wide = canvas.width - 76 * ratio;
            const x = Math.floor(76 * ratio + ((column + 0.5) / columns) * wide);
            const { data } = ink.getImageData(x, 24 * ratio, 1, canvas.height - 30 * ratio);
            let sum = 0;
            for (let i = 0; i < data.length; i += 4) if (data[i + 3]) sum += 251 - Math.min(251, data[i]);
            return sum / (data.length / 4);
        }""",
        [column, columns],
    )


def eventually(condition, what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def becomes(read, wanted, seconds: float = 60) -> None:
    """Waits until read() is what is wanted; the failure shows both."""
    end = time.monotonic() + seconds
    while read() != wanted and time.monotonic() < end:
        time.sleep(0.1)
    assert read() == wanted


def test_it_opens_on_theta_and_the_strongest_heads_attention(heads, theta, exploration):
    seen = heads()
    layer, head = divmod(int(np.abs(theta).argmax()), theta.shape[1])
    assert shown(seen) == f"{layer}.{head}"
    assert seen.page.locator(".hr li").count() == theta.size
    assert column_ink(seen, len(exploration.prompt.ids) // 2, len(exploration.prompt.ids)) >= 0
    assert seen.page.locator("div.hm canvas").first.evaluate("(c) => c.width > 500 && c.height > 200")
    assert address(seen) == {}
    assert not seen.strangers()
    assert not seen.errors


def test_a_click_on_a_cell_shows_its_pattern_and_a_reload_keeps_it(heads, theta):
    seen = heads()
    click_cell(seen, theta, 5, 7)
    becomes(lambda: shown(seen), "5.7")
    assert address(seen) == {"layer": "5", "head": "7"}
    assert seen.page.get_by_text("Layer 5, head 7").first.is_visible()
    seen.page.reload()
    ready(seen)
    assert shown(seen) == "5.7"


def test_two_quick_clicks_choose_the_second_head(heads, theta):
    seen = heads()
    click_cell(seen, theta, 5, 7)
    click_cell(seen, theta, 6, 7)
    becomes(lambda: shown(seen), "6.7")


def test_while_comparing_a_click_puts_a_head_beside_the_others(heads, theta):
    seen = heads("layer=5&head=7&compare=8.0")
    click_cell(seen, theta, 9, 2)
    becomes(lambda: shown(seen), "5.7,8.0,9.2")
    assert seen.page.locator("div.hm .plot").count() == 3
    assert address(seen)["compare"] == "8.0,9.2"
    seen.page.locator("div.hm .plot").nth(1).hover(position={"x": 300, "y": 100})
    eventually(
        lambda: all(w.strip() for w in seen.page.locator("div.hm .weight").all_inner_texts()),
        "one crosshair should give a weight in every matrix",
    )
    seen.page.get_by_test_id("stMain").get_by_text("Compare", exact=True).click()
    becomes(lambda: shown(seen), "5.7")


def test_the_ranking_is_walked_by_keyboard(heads, theta):
    seen = heads()
    order = [divmod(int(i), theta.shape[1]) for i in np.argsort(-np.abs(theta).ravel(), kind="stable")]
    seen.page.locator(".hr .pick").first.focus()
    seen.page.keyboard.press("ArrowDown")
    seen.page.keyboard.press("ArrowDown")
    seen.page.keyboard.press("Enter")
    layer, head = order[2]
    becomes(lambda: shown(seen), f"{layer}.{head}")
    seen.page.keyboard.press("ArrowUp")
    seen.page.keyboard.press("c")
    becomes(lambda: shown(seen), f"{layer}.{head},{order[1][0]}.{order[1][1]}")


def test_a_muted_head_is_left_out_and_the_page_says_what_changed(heads, theta):
    seen = heads()
    layer, head = divmod(int(np.abs(theta).argmax()), theta.shape[1])
    seen.page.locator(".hr li").first.locator(".tool").nth(1).click()
    becomes(lambda: address(seen), {"mute": f"{layer}.{head}"})
    said = seen.page.get_by_text(re.compile(rf"^Without L{layer}·H{head}, for .*the top source"))
    said.wait_for()
    seen.page.get_by_text("Without muted heads").click()
    seen.page.locator(".text.response, .response").nth(1).wait_for()
    assert address(seen)["view"] == "without"
    assert not seen.errors


def test_a_muted_head_carries_its_mark_and_negative_numbers_their_sign(heads, theta):
    layer, head = divmod(int(np.abs(theta).argmax()), theta.shape[1])
    seen = heads(f"mute={layer}.{head}")
    mutes = seen.page.locator(".hr .tool:last-child").all_inner_texts()
    assert mutes[0] == "✕"
    assert not [text for text in seen.page.locator(".hr .value").all_inner_texts() if "-" in text]  # but "−"
    assert "✕" not in mutes[1:]
    assert seen.page.get_by_text("✕: muted").is_visible()


def test_on_the_text_a_token_is_named_after_the_part_it_stands_in(heads):
    seen = heads()
    seen.page.get_by_text("On the text", exact=True).click()
    seen.page.locator(".prompt .u").first.wait_for()
    tip = seen.page.locator(".tip b")
    for place, name in ((".template .u >> nth=-1", "Template"), (".turn.query .u >> nth=1", "Query")):
        token = seen.page.locator(f".prompt {place}")
        token.scroll_into_view_if_needed()
        token.hover()
        becomes(lambda: tip.inner_text(), name)


@pytest.mark.parametrize("width", [1280, 1920])
def test_the_words_of_a_legend_are_whole_or_gone(heads, width):
    seen = heads("mute=13.2", width=width, height=1080)
    seen.page.get_by_text("Without muted heads").click()
    seen.page.locator(".at2 .legend").nth(2).wait_for(state="attached")
    seen.page.wait_for_timeout(500)
    found = seen.page.locator(".at2 .legend:visible").evaluate_all(
        """(legends) => legends.map((legend) => {
            const place = (e) => e.getBoundingClientRect(), box = place(legend);
            const scale = place(legend.querySelector(".scale"));
            const said = [...legend.querySelectorAll(".words")].find((e) => e.getClientRects().length), words = place(said);
            const inside = (b) => b.left >= box.left - 1 && b.right <= box.right + 1 && b.bottom <= box.bottom + 2;
            const whole = inside(words) && said.scrollWidth <= said.clientWidth + 1;
            return { scale: inside(scale), words: whole || words.top >= box.bottom - 1, title: legend.title };
        })"""
    )
    assert len(found) == 2
    for legend in found:
        assert legend["scale"]
        assert legend["words"]
        assert legend["title"].startswith("stronger blue = ")


def test_titles_and_controls_of_a_row_share_their_middle(heads):
    seen = heads()
    middle = """(e) => {
        const range = new Range();
        range.selectNodeContents(e);
        const box = range.getBoundingClientRect();
        return box.y + box.height / 2;
    }"""
    for row in ("grid", "pattern"):
        parts = ("h4", "[role=radiogroup], [data-testid=stButtonGroup]")
        middles = [
            seen.page.locator(f".st-key-row-{row} :is({part})").first.evaluate(middle) for part in parts
        ]
        assert abs(middles[0] - middles[1]) < 2
        controls = seen.page.locator(
            f".st-key-row-{row} :is([data-testid=stSelectbox] [role=group], [data-testid=stBaseButton-secondary])"
        )
        heights = controls.evaluate_all("(all) => all.map((e) => e.getBoundingClientRect().height)")
        assert {height for height in heights if height} == {32}


def test_a_token_of_space_has_a_label_and_nothing_turns_one(visit):
    seen = visit()
    script = (explorations.GALLERY.parent / "head_matrix_paint.js").read_text("utf-8")
    labels = seen.page.evaluate(
        f"(() => {{ {script}; return [' ', '\\n', ' a', '\\u202eb', 'c' + '\\u0301'.repeat(99)].map(visible); }})()"
    )
    assert labels[:4] == ["␣", "↵", " a", "‹RLO›b"]
    assert len(labels[4]) < 9


def test_the_first_token_is_hidden_at_first_and_shown_on_demand(heads, theta, exploration):
    seen, columns = heads("", color_scheme="light"), len(exploration.prompt.ids)
    before = column_ink(seen, 0, columns)
    seen.page.get_by_label("Show first-token sink").check()
    becomes(lambda: address(seen), {"sink": "1"})
    assert column_ink(seen, 0, columns) > before + 10
    seen.page.reload()
    ready(seen)
    assert seen.page.get_by_label("Show first-token sink").is_checked()


def test_the_crosshair_says_both_tokens_without_a_word_to_the_server(heads, exploration):
    seen = heads()
    seen.page.wait_for_timeout(1500)
    messages, box = len(seen.sent), matrix_box(seen)
    prompt, response = len(exploration.prompt.ids), len(exploration.response_ids)
    row, column = 3, prompt // 2
    at = {
        "x": box["left"] + (column + 0.5) * box["width"] / prompt,
        "y": box["top"] + (row + 0.5) * box["height"] / response,
    }
    seen.page.locator("div.hm .plot").hover(position=at)
    readout = seen.page.locator("div.hm .readout")
    eventually(lambda: f"prompt token {column} " in readout.inner_text(), "the crosshair is not there")
    start, end = exploration.prompt.offsets[column]
    marks = readout.locator("mark").all_inner_texts()
    assert f"token {row} " in readout.inner_text()
    assert marks[1].strip() == exploration.prompt.text[start:end].replace("\n", "↵").strip()
    assert not [size for size in seen.sent[messages:] if size > 200]


def test_the_matrix_is_used_by_keyboard(heads):
    seen = heads()
    seen.page.locator("div.hm .plot").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        seen.page.keyboard.press(key)
    becomes(lambda: address(seen), {"pin": "2-2"})
    seen.page.keyboard.press("+")
    whole = seen.page.get_by_role("button", name="Whole prompt")
    assert whole.is_enabled()
    seen.page.keyboard.press("0")
    assert whole.is_disabled()


def test_a_pinned_row_comes_back_with_the_matrix_and_goes_when_the_whole_response_is_chosen(heads):
    seen = heads()
    of_span = seen.page.get_by_text("In words: the strongest cells of the pinned span")
    seen.page.locator("div.hm .plot").focus()
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        seen.page.keyboard.press(key)
    becomes(lambda: address(seen), {"pin": "2-2"})
    seen.page.get_by_text("On the text", exact=True).click()
    seen.page.locator(".prompt .u").first.wait_for()
    seen.page.get_by_text("Matrix", exact=True).click()
    of_span.wait_for()
    seen.page.get_by_label("Span of the response").click()
    seen.page.get_by_role("option", name="The whole response").click(timeout=15_000)
    becomes(lambda: address(seen), {})
    becomes(of_span.count, 0)


def test_a_part_of_the_prompt_fills_the_matrix_when_its_name_is_clicked(heads, exploration):
    seen = heads()
    part = next(p for p in exploration.prompt.parts if p.kind == "context")
    middle = (part.token_start + part.token_end) / 2 / len(exploration.prompt.ids)
    box = matrix_box(seen)
    seen.page.locator("div.hm .plot").click(position={"x": box["left"] + middle * box["width"], "y": 8})
    window = f"{part.token_start},{part.token_end},0,{len(exploration.response_ids)}"
    assert seen.page.locator("div.hm").get_attribute("data-window") == window


def test_a_link_opens_everything_it_names(heads):
    link = {
        "layer": "3",
        "head": "1",
        "compare": "7.0,8.8",
        "mute": "14.3",
        "sink": "1",
        "grid": "contribution",
    }
    seen = heads(
        "&".join(f"{key}={value}" for key, value in {**link, "pin": "2-5"}.items()), color_scheme="dark"
    )
    assert shown(seen) == "3.1,7.0,8.8"
    assert address(seen) == {**link, "pin": "2-5"}
    assert seen.page.get_by_text("the contributions of all heads add up").is_visible()
    assert not seen.errors


def test_the_way_to_explore_and_back_keeps_the_head(heads):
    seen = heads("layer=3&head=1")
    seen.page.get_by_role("link", name="Explore").click()
    seen.page.locator(".response .u").first.wait_for()
    seen.page.get_by_role("link", name="Heads").click()
    ready(seen)
    becomes(lambda: shown(seen), "3.1")
    assert address(seen) == {"layer": "3", "head": "1"}


def test_hostile_texts_and_addresses_stay_text(visit):
    seen = visit("?run=new")
    page = seen.page
    fill_in(page, title=HOSTILE, text=HOSTILE, query=HOSTILE, response=HOSTILE)
    page.get_by_role("button", name="Attribute").click()
    page.locator(".response .u").first.wait_for(timeout=MINUTES)
    run = parse_qs(urlparse(page.url).query)["run"][0]
    page.goto(
        f"{seen.address}/heads?run={run}&mute=0.0&grid=contribution&source=0&layer=<script>&compare=%27%22"
    )
    ready(seen)
    page.locator("div.hm .plot").hover(position={"x": 300, "y": 60})
    page.locator("div.hm summary").click()
    page.get_by_text("On the text").click()
    page.locator(".response .u").first.wait_for()
    assert page.evaluate("top.pwned") is None
    assert not page.locator(
        "div.hm img, div.hm script, div.hm a, .hr img, .hr script, .at2 img, .at2 script"
    ).count()
    assert not seen.strangers()
    assert not seen.dialogs
    assert not seen.errors
