"""Docker's engine, or another that speaks its API (Podman's socket), through calls that survive its restart."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

import docker
import requests
from docker.errors import APIError, DockerException

from runners.protocol import RunnerUnavailable
from runners.retry import retry

_ANSWER_S, _GIVE_UP_S = 60, 60.0
_LOST = (requests.exceptions.ConnectionError, requests.exceptions.ReadTimeout)

P = ParamSpec("P")
R = TypeVar("R")


class Engine:
    """Raises RunnerUnavailable where no engine answers. `DOCKER_HOST` and its kin in the environment say where."""

    def __init__(self) -> None:
        try:
            self.client = docker.from_env(timeout=_ANSWER_S)
            self._info: dict[str, Any] = self.client.info()
        except (DockerException, *_LOST) as error:
            raise RunnerUnavailable(
                "no Docker engine answers; start it, or set DOCKER_HOST to where it is (Podman's socket does too)"
            ) from error
        if (host := _elsewhere(os.environ.get("DOCKER_HOST", ""))) is not None and not self.is_here:
            raise RunnerUnavailable(
                f"the Docker engine is on {host}, and its containers' ports are published for that machine alone\n"
                "Run tune there, or unset DOCKER_HOST to use the engine of this machine."
            )

    def close(self) -> None:
        """End its connections."""
        self.client.close()

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine, so that its containers use our cores and see our files."""
        return bool(self._info.get("Name") == platform.node())

    @property
    def cores(self) -> tuple[int, ...]:
        """How many CPU cores the engine's machine has."""
        return tuple(range(int(self._info["NCPU"])))

    @property
    def memory_bytes(self) -> int:
        """The memory of the engine's machine, in bytes."""
        return int(self._info["MemTotal"])

    def ask(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The call's answer, asked again with back-off while the engine is away: it must do no harm twice.

        Raises APIError for what the engine refuses, RunnerUnavailable when it stays away.
        """
        try:
            return retry(lambda error: isinstance(error, _LOST), _GIVE_UP_S, call, *args, **kwargs)
        except _LOST as error:
            raise RunnerUnavailable(f"the Docker engine has not answered for {_GIVE_UP_S:g} s") from error


def _elsewhere(docker_host: str) -> str | None:
    """The machine that DOCKER_HOST names; None for a socket's file, or an address of this machine alone."""
    host = urlsplit(docker_host).hostname
    return None if host in (None, "localhost", "::1") or str(host).startswith("127.") else host


def engine_message(error: APIError) -> str:
    """The engine's own words, on one line."""
    return " ".join(str(error.explanation or error).split())[:300]
