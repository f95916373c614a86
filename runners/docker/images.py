"""The images that servers run in: found here, built from a folder, or pulled."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from docker.errors import APIError, BuildError, NotFound

from runners.docker.engine import LOST, Engine, engine_message
from runners.protocol import RunnerUnavailable


class Images:
    """The id of each image by its name, once it is there. `built` is made from the folder `build`, if there is one."""

    def __init__(self, engine: Engine, built: str, build: Path | None) -> None:
        self._engine, self._built, self._build = engine, built, build
        self._ids: dict[str, str] = {}
        self._lock = threading.Lock()

    def have(self, name: str) -> str:
        """Build or find the image, once; pull it where it is not there. Returns its id."""
        with self._lock:
            if name in self._ids:
                return self._ids[name]
            images = self._engine.client.images
            try:
                if self._build is not None and name == self._built:
                    images.build(path=str(self._build), tag=name, rm=True, forcerm=True)
                self._ids[name] = self._find(name)
            except BuildError as error:
                raise RunnerUnavailable(f"the image {name} does not build: {str(error)[:300]}") from error
            except APIError as error:
                raise RunnerUnavailable(
                    f"there is no image {name} here, and it cannot be pulled: {engine_message(error)}\n"
                    "Build it, name another (service.image), or name a folder to build it from (runner.docker.build)."
                ) from error
            return self._ids[name]

    def lacks(self, name: str) -> bool:
        """Whether the engine has to pull it first. What it does not answer is seen at the first launch."""
        if self._build is not None and name == self._built:
            return False
        with contextlib.suppress(APIError, *LOST):
            try:
                self._engine.client.images.get(name)
            except NotFound:
                return True
        return False

    def _find(self, name: str) -> str:
        images = self._engine.client.images
        try:
            found = self._engine.ask(images.get, name)
        except NotFound:
            found = images.pull(name)
        return str(found.id if not isinstance(found, list) else found[0].id)
