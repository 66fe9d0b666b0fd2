"""Another model for everybody, in Chromium: chosen in one window, told in another, offered back where it is missed."""

from __future__ import annotations

import re
import shutil

import pytest

MINUTES = 240_000  # ms: loading the model on a busy machine
HOSTILE = "<script>top.pwned=1</script> ![i](http://evil.example/i.png)"


@pytest.fixture(scope="module")
def server(start_server, tmp_path_factory, tiny_folder) -> str:
    """A server with a folder of models, one of them with a name and a licence by somebody else."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_folder("qwen3"), folder / "second")
    shutil.copytree(tiny_folder("gpt2"), folder / "<img src=x onerror=top.pwned=1>")
    (folder / "<img src=x onerror=top.pwned=1>" / "README.md").write_text(f"---\nlicense: {HOSTILE}\n---\n")
    return start_server(AT2_MODELS_DIR=str(folder))


def dialog(page):
    page.get_by_role("button", name="Models", exact=True).click()
    opened = page.get_by_role("dialog")
    opened.get_by_role("textbox", name="Another model").wait_for()
    return opened


def card(opened, name: str):
    return opened.locator("[class*='st-key-row-model-']").filter(has_text=name).last


def test_a_model_is_switched_for_everybody_and_back_and_a_reload_knows_it(visit):
    seen, other = visit("?example=lighthouse"), visit("?example=lighthouse")
    page = seen.page
    for window in (page, other.page):
        window.get_by_test_id("stMain").get_by_text("smollm2-135m-instruct is ready").wait_for(
            timeout=MINUTES
        )
    opened = dialog(page)
    assert (
        "135 million parameters · 30 layers × 9 heads" in card(opened, "smollm2-135m-instruct").inner_text()
    )
    card(opened, "second").get_by_role("button", name="Load").click()
    opened.wait_for(state="detached")
    page.get_by_test_id("stMain").get_by_text("second is ready").wait_for(timeout=MINUTES)
    made_with = "This was made with smollm2-135m-instruct; second is loaded now."
    page.reload()
    page.get_by_test_id("stMain").get_by_text(made_with).first.wait_for(timeout=MINUTES)
    page.locator(".response .u").first.wait_for()  # what the former model made is still on screen

    window = other.page  # hears of it with its next look
    window.reload()
    window.get_by_test_id("stMain").get_by_text("second is ready").wait_for(timeout=MINUTES)
    window.get_by_test_id("stMain").get_by_role(
        "button", name=re.compile("Load smollm2-135m-instruct")
    ).first.click()
    window.get_by_test_id("stMain").get_by_text("smollm2-135m-instruct is ready").wait_for(timeout=MINUTES)
    window.get_by_text(made_with).first.wait_for(state="detached")
    assert not seen.errors + other.errors
    assert not seen.strangers() + other.strangers()


def test_what_a_models_files_say_stays_text_and_a_wrong_path_is_a_sentence(visit):
    seen = visit("?example=lighthouse")
    page = seen.page
    page.get_by_test_id("stMain").get_by_text("is ready").wait_for(timeout=MINUTES)
    opened = dialog(page)
    opened.get_by_text("<script>top.pwned=1</script>").wait_for()
    opened.get_by_text("<img src=x onerror=top.pwned=1>").wait_for()
    opened.get_by_role("textbox", name="Another model").fill("/nowhere/at/all")
    opened.get_by_role("textbox", name="Another model").press("Enter")
    opened.get_by_text("There is no folder or file '/nowhere/at/all'").wait_for()
    assert page.evaluate("top.pwned") is None
    assert not page.locator("img[src=x]").count()
    assert not seen.strangers()
    opened.get_by_role("button", name="Close").click()
    opened.wait_for(state="detached")
    page.reload()
    page.get_by_test_id("stMain").get_by_text("is ready").wait_for(timeout=MINUTES)
    assert not page.get_by_role("dialog").count()
