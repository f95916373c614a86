"""Take the pictures of the documentation: report and dashboard, wide and narrow, light and dark, of a run's folder.

    python -m docs.pictures DIR [--output docs/pictures]

Needs Chromium and Pillow. DIR is a finished run's folder; `tune demo --replay` makes one in tuning/demo.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run")
_WIDTHS = {"wide": 1400, "phone": 390}
_PORT = 8391
_TABS = ("Overview", "Trials")


@contextlib.contextmanager
def _dashboard(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "tuner.cli", "dashboard", str(folder), "--port", str(_PORT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield f"http://127.0.0.1:{_PORT}/"
        finally:
            process.terminate()


def _shoot(page: Any, path: Path, *, whole: bool = True) -> None:
    page.screenshot(path=path, full_page=whole)
    # 256 colours, rare ones among them: a third of the size.
    with Image.open(path) as taken:
        few = taken.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    wide = page.evaluate("document.documentElement.scrollWidth")
    print(f"{path}: {wide} px wide in a window of {page.viewport_size['width']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "pictures")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, _dashboard(options.folder) as address:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(_ARGUMENTS))
        for size, width in _WIDTHS.items():
            for scheme in ("light", "dark"):
                context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
                page = context.new_page()
                page.goto((options.folder / "report.html").resolve().as_uri())
                _shoot(page, options.output / f"report-{size}-{scheme}.png")
                if (size, scheme) == ("wide", "light"):
                    _shoot(page, options.output / "report-top.png", whole=False)
                page.goto(address)
                for tab in _TABS:
                    page.wait_for_selector("#hero .sentence, #hero .verdict")
                    page.get_by_label(tab, exact=True).check(force=True)
                    page.wait_for_timeout(2500)
                    name = tab.lower().replace(" ", "-")
                    _shoot(page, options.output / f"dashboard-{name}-{size}-{scheme}.png")
                context.close()
        browser.close()


if __name__ == "__main__":
    main()
