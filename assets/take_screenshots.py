"""The README's screenshots: `python assets/take_screenshots.py` (needs tests/requirements.txt and Chromium).

Starts the app, opens both pages in light and dark, pins something and saves assets/screenshots/*.png.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "assets" / "screenshots"
READY = {"explore": ".response .u", "heads": ".hm .plot"}  # what is drawn last on each page
PAGES = {
    "explore": "/?example=lighthouse&granularity=sentence&unit=sentence&pin=0-19",
    "heads": "/heads?example=lighthouse",
}


@contextlib.contextmanager
def server(script: str = "app.py") -> Iterator[str]:
    """The address of a running app. script: its file, relative to the project."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        script,
        "--server.port",
        str(port),
        "--server.headless",
        "true",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(240):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
                break
            time.sleep(0.25)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def settle(page: Page, name: str) -> None:
    """Until everything on the page is drawn."""
    page.locator(READY[name]).first.wait_for(timeout=180_000)
    page.wait_for_timeout(4000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=1440)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--wait", type=float, default=0, help="more seconds before each picture")
    options = parser.parse_args()
    browser_path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    options.out.mkdir(parents=True, exist_ok=True)
    with server() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": options.width, "height": options.height}, color_scheme=scheme
            )
            page = context.new_page()
            for name, path in PAGES.items():
                page.goto(address + path)
                settle(page, name)
                page.wait_for_timeout(options.wait * 1000)
                page.screenshot(path=options.out / f"{name}-{scheme}.png")
                print(options.out / f"{name}-{scheme}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
