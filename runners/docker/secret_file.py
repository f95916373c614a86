"""The variables of `service.secrets` in a container, without `docker inspect` showing what they hold.

Docker keeps a container's environment in its description, on disk and in every answer about it. So the values are laid
into the container as a file before it starts, and a fixed line of the image's own shell makes variables of them and
becomes the server's program. The words of the command are its arguments: no shell reads them.
"""

from __future__ import annotations

import io
import os
import shlex
import tarfile
from collections.abc import Sequence

from docker.errors import NotFound

from runners.docker.engine import Engine, engine_message
from runners.protocol import RunnerUnavailable, ServerFailed

_FOLDER, _FILE, _SHELL = "tune", "tune/secrets", "/bin/sh"
_BEGIN = (_SHELL, "-c", f'. /{_FILE} && exec "$@"', "tune")
_FOLDER_MODE, _FILE_MODE = 0o755, 0o444  # the image's user is not known; on the host, the engine's folders are root's


def with_secrets(engine: Engine, image: str, command: Sequence[str]) -> list[str]:
    """The command that reads the file first; where there is no command, the image's own program begins so."""
    if command:
        return [*_BEGIN, *command]
    config = engine.ask(engine.client.api.inspect_image, image)["Config"] or {}
    return [*_BEGIN, *(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]


def give_secrets(engine: Engine, container: str, names: Sequence[str]) -> None:
    """Lay the values into a container that was made and has not started. Raises RunnerUnavailable where its image has
    no shell to read them, ServerFailed where the container is gone.
    """
    try:
        stream, _ = engine.ask(engine.client.api.get_archive, container, _SHELL)
        stream.close()
        engine.ask(engine.client.api.put_archive, container, "/", _archive(names))
    except NotFound as error:
        if "No such container" in engine_message(error):
            raise ServerFailed("somebody removed the container") from error
        raise RunnerUnavailable(
            f"the image has no {_SHELL}, which would read the values of service.secrets from a file\n"
            "Set runner.docker.secrets: environment, which gives them where `docker inspect` shows them."
        ) from error


def _archive(names: Sequence[str]) -> bytes:
    text = "".join(f"export {name}={shlex.quote(os.environ.get(name, ''))}\n" for name in names)
    content = text.encode("utf-8", errors="surrogateescape")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        folder, file = tarfile.TarInfo(_FOLDER), tarfile.TarInfo(_FILE)
        folder.type, folder.mode = tarfile.DIRTYPE, _FOLDER_MODE
        file.size, file.mode = len(content), _FILE_MODE
        archive.addfile(folder)
        archive.addfile(file, io.BytesIO(content))
    return packed.getvalue()
