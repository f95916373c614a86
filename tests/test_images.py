"""`images/build`: what it refuses before it downloads anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BUILD = Path(__file__).parent.parent / "images" / "build"


@pytest.mark.usefixtures("needs_machine")
def test_files_for_one_python_are_not_put_into_an_image_with_another(tmp_path: Path) -> None:
    """The engine stands in for one whose base image has another Python; nothing else of it is asked."""
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\n[ "$1" = run ] && echo cp27-m68k\n', encoding="utf-8")
    docker.chmod(0o755)
    given = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": sys.executable, "BASE": "old@sha256:0"}
    done = subprocess.run([BUILD, "minilm"], env=given, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "the base old@sha256:0 has cp27-m68k: what one downloads the other cannot install" in done.stderr
    assert "Set PYTHON to a Python of that version" in done.stderr
