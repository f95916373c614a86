"""Leases of these tests lie in a folder of their own, by which a clean-up here is kept from everybody else's runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runners.support import marked


@pytest.fixture(autouse=True)
def _alone_and_tidy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield
    assert marked() == []
    assert not list((tmp_path / "state").rglob("*.json"))
