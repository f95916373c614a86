"""Real engines for the tests: where they are absent a test is skipped, or fails when TUNE_TEST_ENGINES=required."""

from __future__ import annotations

import functools
import os
import subprocess
from typing import NoReturn

import pytest

IMAGE = "small:1"


def _absent(what: str, how: str) -> NoReturn:
    if os.environ.get("TUNE_TEST_ENGINES") == "required":
        pytest.fail(f"{what}, and TUNE_TEST_ENGINES=required; {how}", pytrace=False)
    pytest.skip(f"{what}; {how}")


@functools.cache
def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def docker_with(*images: str) -> None:
    """Docker's engine, with these images."""
    if not _run("docker", "info"):
        _absent("no Docker engine answers", "start one: dockerd")
    for image in images:
        if not _run("docker", "image", "inspect", image):
            _absent(f"there is no image {image}", f"build it: images/build {image.partition(':')[0]}")


def cluster() -> str:
    """A cluster that the tests may use as they like: the kubeconfig's path."""
    config = os.environ.get("TUNE_TEST_KUBECONFIG", "")
    if not config:
        _absent(
            "TUNE_TEST_KUBECONFIG names no cluster for the tests", "set it to the kubeconfig of one that may be used"
        )
    return config
