"""Docker's engine, or another that speaks its API (Podman's socket), through calls that survive its restart."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar
from urllib.parse import urlsplit

import docker
import requests
from docker.errors import APIError, DockerException

from runners.docker.whole import whole
from runners.protocol import RunnerUnavailable
from runners.retry import retry_until

_ANSWER_S, _GIVE_UP_S = 60, 60.0
# What Docker says of its cgroups' controllers. Podman (which alone names a version of Buildah) says it of version 1's.
_SAYS = {"cpu": "CpuCfsQuota", "cpuset": "CPUSet", "memory": "MemoryLimit"}
_USERS_CGROUP = "/sys/fs/cgroup/user.slice/user-{0}.slice/user@{0}.service/cgroup.controllers"
LOST = (requests.exceptions.ConnectionError, requests.exceptions.ReadTimeout)

Controller = Literal["cpu", "cpuset", "memory"]
P = ParamSpec("P")
R = TypeVar("R")


class Engine:
    """Raises RunnerUnavailable where no engine answers. `DOCKER_HOST` and its kin in the environment say where."""

    def __init__(self) -> None:
        try:
            self.client = docker.from_env(timeout=_ANSWER_S)
            self._info: dict[str, Any] = self.client.info()
        except (DockerException, *LOST) as error:
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
    def is_rootless(self) -> bool:
        """Whether it runs as a user, whose containers have a network that nobody else sees."""
        return "name=rootless" in self._secured_by

    @property
    def is_confined(self) -> bool:
        """Whether SELinux keeps its containers from files that are not labelled for them."""
        return "name=selinux" in self._secured_by

    @property
    def _secured_by(self) -> list[str]:
        return [str(one).partition(",")[0] for one in self._info.get("SecurityOptions") or ()]

    def controls(self, controller: Controller) -> bool:
        """Whether it can hold containers to a share of that. One that runs as a user has what systemd delegates to the
        user: cores of their own (cpuset) are seldom among it. Docker and Podman with cgroups of version 1 then leave
        the limit out without a word, Podman with version 2 cannot start the container.
        """
        if self._info.get("CgroupDriver") == "none":
            return False
        if "BuildahVersion" not in self._info:
            return bool(self._info.get(_SAYS[controller], True))
        if not self.is_rootless:
            return True
        return str(self._info.get("CgroupVersion", "2")) != "1" and _is_delegated(controller)

    @property
    def pins(self) -> bool:
        """Whether its containers can have cores of this machine of their own."""
        return self.is_here and self.controls("cpuset")

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
        return self._ask(threading.Event(), call, *args, **kwargs)

    def ask_whole(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As `ask`, for what makes something: an interrupt is heeded when the engine has answered, or the try that is
        under way has failed. What it was still making then would not be there yet when it is to be removed, and would
        stay.
        """
        return whole(lambda called_off: self._ask(called_off, call, *args, **kwargs))

    def _ask(self, called_off: threading.Event, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return retry_until(called_off, lambda error: isinstance(error, LOST), _GIVE_UP_S, call, *args, **kwargs)
        except LOST as error:
            raise RunnerUnavailable(f"the Docker engine has not answered for {_GIVE_UP_S:g} s") from error


def _is_delegated(controller: Controller) -> bool:
    """Whether systemd delegates it to this user; True where it does not say, since the engine then will."""
    try:
        return controller in Path(_USERS_CGROUP.format(os.getuid())).read_text(encoding="ascii").split()
    except OSError:
        return True


def _elsewhere(docker_host: str) -> str | None:
    """The machine that DOCKER_HOST names; None for a socket's file, or an address of this machine alone."""
    host = urlsplit(docker_host).hostname
    return None if host in (None, "localhost", "::1") or str(host).startswith("127.") else host


def engine_message(error: APIError) -> str:
    """The engine's own words, on one line."""
    return " ".join(str(error.explanation or error).split())[:300]
