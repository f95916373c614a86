"""A real Chromium for the tests, and what it saw: where there is none a test is skipped, or fails in CI."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, sync_playwright

_AXE = Path(__file__).parent.parent / "node_modules" / "axe-core" / "axe.min.js"
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
def browser(home: str, width: int = 1280, scheme: Literal["light", "dark"] = "light") -> Iterator[Seen]:
    """`home` is what addresses of our own begin with."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        if os.environ.get("TUNE_TEST_ENGINES") == "required":
            pytest.fail("there is no Chromium; apt-get install chromium", pytrace=False)
        pytest.skip("there is no Chromium; install one")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        try:
            page = found.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            seen = Seen(page)
            page.on("request", lambda one: seen.elsewhere.append(one.url) if _elsewhere(one.url, home) else None)
            page.on(
                "console", lambda one: seen.complaints.append(one.text) if one.type in ("error", "warning") else None
            )
            page.on("pageerror", lambda error: seen.complaints.append(str(error)))
            yield seen
        finally:
            found.close()


def inaccessible(seen: Seen) -> list[str]:
    """What axe-core calls serious or critical on the page as it is now, with where it is."""
    if not _AXE.is_file():
        if os.environ.get("TUNE_TEST_ENGINES") == "required":
            pytest.fail("axe-core is missing; npm install", pytrace=False)
        pytest.skip("axe-core is missing: npm install")
    # By the browser's own protocol, which the page's policy on scripts does not concern.
    session = seen.page.context.new_cdp_session(seen.page)
    session.send("Runtime.evaluate", {"expression": _AXE.read_text(encoding="utf-8")})
    answer = session.send(
        "Runtime.evaluate",
        {"expression": "axe.run().then(found => JSON.stringify(found.violations))", "awaitPromise": True,
         "returnByValue": True},
    )  # fmt: skip
    found = json.loads(answer["result"]["value"])
    return [
        f"{one['id']}: {one['help']}: {node['html'][:160]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:3]
    ]


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until it is so. The page's policy forbids what Playwright's own wait for a function does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it has not come to that"
        time.sleep(0.05)


def _elsewhere(url: str, home: str) -> bool:
    return not url.startswith((home, "data:", "blob:"))
