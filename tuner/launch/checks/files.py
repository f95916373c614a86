"""Whether what a process is started from is there: its Python environment, and the script of its command."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tuner.launch.render import placeholders
from tuner.spec.reading import LoadedSpec

# Interpreters that run a file of the user's, with the options of theirs that are followed by a value of their own, and
# those after which no file comes at all.
_PYTHON = re.compile(r"(?:pythonw?|pypy)[0-9.]*(?:-[a-z]+)?")
_VALUED = {"python": ("-X", "-W", "--check-hash-based-pycs")}
_NO_SCRIPT = {"python": ("-m", "-c", "-"), "shell": ("-c", "-s"), "node": ("-e", "-p", "--eval"), "java": ()}
_KINDS = {"bash": "shell", "sh": "shell", "dash": "shell", "zsh": "shell", "node": "node", "java": "java"}


def check_environment(loaded: LoadedSpec) -> None:
    """Raises SpecError where `service.venv` is no Python environment: the python of the PATH would be started
    instead.
    """
    venv = loaded.spec.service.venv
    if venv is None:
        return
    folder = loaded.folder / venv
    key = ("service", "venv")
    if not folder.is_dir():
        raise loaded.error(key, f"there is no folder {folder}; make it: python3 -m venv {folder}")
    if not (folder / "bin" / "python").exists():
        raise loaded.error(key, f"{folder} is not a Python environment: it has no bin/python")


def check_script(loaded: LoadedSpec) -> None:
    """Raises SpecError where the command runs a file that is not there, as `python server.py` without a server.py."""
    command = loaded.spec.service.command
    found = script_at(command)
    if found is None:
        return
    script = command[found]
    if not placeholders(script) and not (loaded.folder / script).exists():
        raise loaded.error(
            ("service", "command", found),
            f"there is no file {script} in {loaded.folder}, where the command runs; name its path from there",
        )


def script_at(command: Sequence[str]) -> int | None:
    """The place in a command of its interpreter's script; None without an interpreter, or if it runs no file."""
    if not command:
        return None
    program = command[0].rsplit("/", 1)[-1]
    kind = "python" if _PYTHON.fullmatch(program) else _KINDS.get(program)
    if kind is None:
        return None
    if kind == "java":
        return command.index("-jar") + 1 if "-jar" in command[1:-1] else None
    position = 1
    while position < len(command):
        word = command[position]
        if word in _NO_SCRIPT[kind] or (kind == "python" and re.match(r"-[bBdEhiIOPqRsSuvVx]*[cm]", word)):
            return None
        if not word.startswith("-"):
            return position
        position += 2 if word in _VALUED.get(kind, ()) else 1
    return None
