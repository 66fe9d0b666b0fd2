"""An estimator imported, used and compared in Chromium, on a server with a folder of estimators of its own."""

from __future__ import annotations

import numpy as np
import pytest

import at2_core as at2
from at2_core import exploration as explorations

MINUTES = 240_000  # ms: loading the model on a busy machine
HOSTILE = (
    '<script>top.pwned=1</script> <img src=x onerror="top.pwned=1"> ![i](http://evil.example/i.png) :red[x]'
)


@pytest.fixture(scope="module")
def server(start_server, tmp_path_factory) -> str:
    """A server that keeps its estimators in a folder of this test."""
    return start_server(XDG_DATA_HOME=str(tmp_path_factory.mktemp("data")))


def test_an_estimator_is_imported_used_and_compared_and_its_name_stays_text(visit, tmp_path):
    usual = at2.load_estimator("smollm2-135m-instruct")
    theta = np.zeros_like(usual.theta)
    theta[13, 2] = 1  # one head alone: its attention is the score
    own = at2.Estimator(theta, HOSTILE, usual.model, usual.model_fingerprint, {"data": {"name": HOSTILE}})
    content = at2.save_estimator(own, tmp_path / "own.safetensors").read_bytes()
    seen = visit("estimators")
    page = seen.page
    page.get_by_text("is ready").wait_for(timeout=MINUTES)
    name = '<img src=x onerror="top.pwned=1">.safetensors'
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    page.locator("input[type=file]").set_input_files([file])
    page.get_by_test_id("stFileChip").wait_for()
    page.get_by_role("button", name="Import", exact=True).click()
    page.get_by_text("Imported <script>").wait_for()
    card = page.locator("[class*='st-key-estimator-card-']").filter(
        has_text="<script>"
    )  # drawn after that remark
    card.get_by_role("button", name="Use in Explore").click()

    page.get_by_text("Chosen θ: <script>").wait_for(timeout=MINUTES)
    page.locator(".response .u").first.wait_for()
    address = page.evaluate("location.search")
    assert f"estimator={own.fingerprint}" in address
    example = explorations.load_example("lighthouse")
    chosen = float(first_row(page))
    page.get_by_text("Former θ", exact=True).click()
    mean = example.scores["at2"].astype(float).mean(axis=0)
    former = max(mean[s.token_start : s.token_end].sum() for s in example.sources["sentence"])
    page.wait_for_function(f"Math.abs(({FIRST_ROW}) - {former}) < {former / 100}")
    assert abs(chosen - former) > former / 10

    other = visit(f"?example=lighthouse&estimator={own.fingerprint}").page  # a link, opened elsewhere
    other.get_by_text("Chosen θ: ").wait_for(timeout=MINUTES)
    other.locator(".response .u").first.wait_for()
    assert float(first_row(other)) == pytest.approx(chosen)

    for tab in (page, other):
        assert tab.evaluate("top.pwned") is None
        assert not tab.locator("img[src=x]").count()
    assert not seen.strangers()
    assert not seen.dialogs
    assert not seen.errors


FIRST_ROW = (
    "[...document.querySelectorAll('*')].flatMap((e) => [...(e.shadowRoot?.querySelectorAll('.rows .raw') ?? [])])"
    ".map((e) => e.innerText)[0]"
)


def first_row(page) -> str:
    page.locator(".rows li .raw").first.wait_for()
    page.wait_for_timeout(1000)
    return page.locator(".rows li .raw").first.inner_text()
