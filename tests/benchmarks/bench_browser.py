"""What a person waits for in Chromium: `python tests/benchmarks/bench_browser.py` (needs Chromium). Prints a Markdown table.

Hover to repaint is the time of all tasks on the page's main thread (script, style, layout, paint) from a hover to the
next, read from Chromium's own trace. Opening and clicking are wall-clock times in a fresh browser context on a warm server.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "assets"))

from playwright.sync_api import Page, sync_playwright  # noqa: E402
from take_screenshots import server  # noqa: E402

HOVERS = 80
UNITS = """() => {
  const root = [...document.querySelectorAll('*')].find(e => e.shadowRoot?.querySelector('.at2')).shadowRoot;
  const box = root.querySelector('.response').getBoundingClientRect();
  return [...root.querySelectorAll('.response .u')].map(e => e.getClientRects()[0])
    .filter(b => b && b.bottom < box.bottom - 5 && b.top > box.top).map(b => [b.x + b.width / 2, b.y + b.height / 2]);
}"""
CLICKED = """() => {
  window.pane = [...document.querySelectorAll('*')].map(e => e.shadowRoot?.querySelector('.hm')).find(Boolean);
  window.took = [];
  new MutationObserver(() => requestAnimationFrame(() => setTimeout(() => {
    if (window.began) { window.took.push(performance.now() - window.began); window.began = null; }
  }))).observe(window.pane, { attributes: true, attributeFilter: ['data-heads'] });
  addEventListener('pointerdown', () => { window.began = performance.now(); }, true);
  const r = document.querySelector('.stPlotlyChart .nsewdrag').getBoundingClientRect();
  return [r.x, r.y, r.width, r.height];
}"""


def quantiles(values: list[float], unit: str = "ms") -> str:
    values = sorted(values)
    return (
        f"median {statistics.median(values):.1f} {unit}, 95th percentile {values[int(len(values) * 0.95)]:.1f} {unit} "
        f"({len(values)} times)"
    )


def hovering(page: Page) -> list[float]:
    """Milliseconds of main-thread work per hover."""
    trace, events, ended = page.context.new_cdp_session(page), [], []
    trace.on("Tracing.dataCollected", lambda part: events.extend(part["value"]))
    trace.on("Tracing.tracingComplete", lambda _: ended.append(True))
    targets = random.Random(1).choices(page.evaluate(UNITS), k=HOVERS)
    trace.send(
        "Tracing.start",
        {"categories": "toplevel,devtools.timeline,blink.user_timing", "transferMode": "ReportEvents"},
    )
    for i, (x, y) in enumerate(targets):
        page.evaluate(f"performance.mark('hover-{i}')")
        page.mouse.move(x, y)
        page.wait_for_timeout(60)
    trace.send("Tracing.end")
    while not ended:
        page.wait_for_timeout(50)
    marks = sorted((e["ts"], e["pid"], e["tid"]) for e in events if e.get("name", "").startswith("hover-"))
    names, thread = ("RunTask", "ThreadControllerImpl::RunTask"), marks[0][1:]
    whole = [e for e in events if e.get("ph") == "X" and e["name"] in names]
    tasks: list[dict[str, Any]] = [e for e in whole if (e["pid"], e["tid"]) == thread]
    starts = [mark[0] for mark in marks]
    return [
        sum(t["dur"] for t in tasks if start <= t["ts"] < min(after, start + 60_000)) / 1000
        for start, after in zip(starts, [*starts[1:], starts[-1] + 60_000], strict=True)
    ]


def opening(browser: Any, address: str, ready: str, repeats: int = 5) -> list[float]:
    """Seconds from the address to what is meant to be seen, each time in a fresh context."""
    seconds = []
    for _ in range(repeats):
        context = browser.new_context(viewport={"width": 1280, "height": 720})
        page = context.new_page()
        start = time.perf_counter()
        page.goto(address)
        page.locator(ready).first.wait_for(timeout=60_000)
        seconds.append(time.perf_counter() - start)
        context.close()
    return seconds


def clicking(page: Page, address: str, clicks: int = 15) -> list[float]:
    """Milliseconds from the press on a head to the frame in which its pattern is drawn."""
    page.goto(f"{address}/heads?example=lighthouse")
    page.wait_for_selector(".hm .plot", timeout=180_000)
    page.wait_for_selector(".stPlotlyChart .nsewdrag", timeout=60_000)
    page.wait_for_timeout(3000)
    left, top, width, height = page.evaluate(CLICKED)
    choice = random.Random(1)
    for _ in range(clicks):
        layer, head = choice.randrange(30), choice.randrange(9)
        page.mouse.click(left + (layer + 0.5) * width / 30, top + (head + 0.5) * height / 9)
        page.wait_for_function(f"window.pane.dataset.heads == '{layer}.{head}'", timeout=20_000)
        page.wait_for_timeout(700)
    return page.evaluate("window.took")


def main() -> None:
    path = os.environ.get("AT2_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    print("| in Chromium | measured |\n| --- | --- |")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        with server("tests/benchmarks/long_page.py") as address:
            for tokens in (2000, 8000):
                page = browser.new_page(viewport={"width": 1280, "height": 720})
                page.goto(f"{address}/?prompt={tokens}&response=200")
                page.locator(".response .u").first.wait_for(timeout=120_000)
                page.wait_for_timeout(3000)
                for when in (
                    "first hovers",
                    "next hovers",
                ):  # a fresh browser compiles the page's code in the first
                    size = f"{tokens:,} prompt tokens, 200 of response, {when}"
                    print(f"| hover to repaint, {size} | {quantiles(hovering(page))} |", flush=True)
                page.close()
        with server() as address:
            opening(browser, address, ".response .u", 1)
            took = [1000 * s for s in opening(browser, address, ".response .u")]
            print(f"| page open to first picture | {quantiles(took)} |", flush=True)
            print(
                f"| click on a head to its pattern | {quantiles(clicking(browser.new_page(), address))} |",
                flush=True,
            )
        browser.close()


if __name__ == "__main__":
    main()
