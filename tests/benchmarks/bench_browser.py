"""What a person waits for in Chromium: `python tests/benchmarks/bench_browser.py` (needs Chromium). Prints a Markdown table.

Hover to repaint is what the tasks on the page's main thread (script, style, layout, paint) take from the one that hears of the
pointer to the one that paints, read from Chromium's own trace; beside it all tasks from a hover to the next, with what is put
off until the pointer rests and with collecting garbage. Opening and clicking are wall-clock times in a fresh browser context
on a warm server.
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
MOVES = ("pointerover", "pointermove", "mousemove", "mouseover")
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


def hovering(page: Page) -> dict[str, list[float]]:
    """Milliseconds of main-thread work per hover, until it is painted and until the next one."""
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
    spans = [
        (start, min(after, start + 60_000))
        for start, after in zip(starts, [*starts[1:], starts[-1] + 60_000], strict=True)
    ]
    own = [e for e in events if e.get("ph") == "X" and (e["pid"], e["tid"]) == thread]
    heard = sorted(
        e["ts"] for e in own if e["name"] == "EventDispatch" and e["args"]["data"]["type"] in MOVES
    )
    paints = sorted(e["ts"] for e in own if e["name"] == "Paint")

    def work(begin: float, end: float) -> float:
        return sum(t["dur"] for t in tasks if t["ts"] + t["dur"] > begin and t["ts"] <= end) / 1000

    repainted = []
    for start, end in spans:
        began = next((ts for ts in heard if start <= ts < end), None)
        painted = next((ts for ts in paints if began is not None and began <= ts < end), None)
        if began is not None and painted is not None:
            repainted.append(work(began, painted))
    return {
        "until it is painted": repainted,
        "until the next": [work(start, end - 1) for start, end in spans],
    }


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
            for tokens, response in ((2000, 200), (8000, 500)):
                page = browser.new_page(viewport={"width": 1280, "height": 720})
                page.goto(f"{address}/?prompt={tokens}&response={response}")  # makes the texts
                page.locator(".response .u").first.wait_for(timeout=120_000)
                page.close()
                page, began = browser.new_page(viewport={"width": 1280, "height": 720}), time.perf_counter()
                page.goto(f"{address}/?prompt={tokens}&response={response}")
                page.locator(".response .u").first.wait_for(timeout=120_000)
                opened = time.perf_counter() - began
                print(f"| page open to first picture, {tokens:,} and {response} tokens | {opened:.1f} s |")
                page.wait_for_timeout(3000)
                for when in (
                    "first hovers",
                    "next hovers",
                ):  # a fresh browser compiles the page's code in the first
                    size = f"{tokens:,} prompt tokens, {response} of response, {when}"
                    for clock, took in hovering(page).items():
                        print(f"| hover to repaint, {size}, {clock} | {quantiles(took)} |", flush=True)
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
