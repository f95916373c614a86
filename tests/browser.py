"""A real Chromium for the tests, and what it saw: where there is none a test is skipped, or fails in CI."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Page, sync_playwright

_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@dataclass
class Seen:
    """A page, the requests that left for elsewhere, and what its console complained of."""

    page: Page
    elsewhere: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextlib.contextmanager
def browser(home: str, width: int = 1280) -> Iterator[Seen]:
    """`home` is what addresses of our own begin with."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        if os.environ.get("TUNE_TEST_ENGINES") == "required":
            pytest.fail("there is no Chromium; apt-get install chromium", pytrace=False)
        pytest.skip("there is no Chromium; install one")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        try:
            page = found.new_page(viewport={"width": width, "height": 900})
            seen = Seen(page)
            page.on("request", lambda one: seen.elsewhere.append(one.url) if _elsewhere(one.url, home) else None)
            page.on(
                "console", lambda one: seen.complaints.append(one.text) if one.type in ("error", "warning") else None
            )
            page.on("pageerror", lambda error: seen.complaints.append(str(error)))
            yield seen
        finally:
            found.close()


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until it is so. The page's policy forbids what Playwright's own wait for a function does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it has not come to that"
        time.sleep(0.05)


def _elsewhere(url: str, home: str) -> bool:
    return not url.startswith((home, "data:", "blob:"))
