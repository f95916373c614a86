"""One wrong input, and what comes of it."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fuzzing.run import tune

TABLE = "cpu_cores,threads,capacity_qps,p99_ms\n1,1,10,20\n1,2,12,20\n2,1,20,21\n2,2,24,21\n4,1,40,22\n4,2,50,22\n"
REPLAY = """\
version: 1
service: {name: rep}
slo: {p99: 50ms, error_rate: 1%}
space: {parameters: {cpu_cores: [1, 2, 4], threads: [1, 2]}}
prices: {cpu_core_hour: 0.04}
current: {cpu_cores: 1, threads: 1}
runner: {type: replay, table: table.csv}
"""
SERVER = """\
version: 1
service: {name: p, command: [python, server.py, "{port}"]}
request: {path: /}
slo: {p99: 50ms}
space: {parameters: {cpu_cores: [1, 2]}}
prices: {cpu_core_hour: 0.04}
"""
_SECONDS = 10.0  # none takes longer, whatever it is given


@dataclass(frozen=True)
class Case:
    """An input: files written beside a good run (`good`), and the words of the call. `code` is the right exit code, and
    `says` a pattern that is in what it prints; `hides` is not in it. The path `stays` is there afterwards.
    """

    kind: str
    what: str
    code: int
    says: str
    words: tuple[str, ...] = ("validate", "spec.yaml")
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    hides: str | None = None
    stays: str | None = None


@dataclass(frozen=True)
class Tried:
    """What came of it. `wrong` is None where that is right."""

    code: int
    message: str
    wrong: str | None


class Scratch:
    """A folder with a good run, in a copy of which each case is tried."""

    def __init__(self, folder: Path) -> None:
        self._good = folder / "template"
        self._good.mkdir()
        for name, text in {"table.csv": TABLE, "spec.yaml": REPLAY, "server.py": ""}.items():
            (self._good / name).write_text(text, encoding="utf-8")
        code, _, said = tune(self._good, "--service", "spec.yaml", "--budget", 6, "--output", "good")
        if code != 0:
            raise RuntimeError(f"the good run did not end well: {said}")
        self.folder = folder / "case"

    def tried(self, case: Case) -> Tried:
        """The call of one case, judged."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self._good, self.folder)
        for name, content in case.files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        begun = time.process_time()
        code, shown, said = tune(self.folder, *case.words)
        message = said.strip() if code != 0 else _line_with(case.says, shown + said)
        return Tried(code, message, self._wrong(case, code, shown + said, time.process_time() - begun))

    def _wrong(self, case: Case, code: int, printed: str, seconds: float) -> str | None:
        if code != case.code:
            return f"ends with {code}, and not {case.code}"
        if not re.search(case.says, printed):
            return f"does not say {case.says!r}"
        if case.hides is not None and case.hides in printed:
            return f"shows {case.hides!r}"
        if case.stays is not None and not (self.folder / case.stays).exists():
            return f"deletes {case.stays}"
        if (self.folder.parent / "escaped").exists():
            return "writes outside of its folder"
        return f"takes {seconds:.0f} s" if seconds > _SECONDS else None


def _line_with(pattern: str, printed: str) -> str:
    return next((line.strip() for line in printed.splitlines() if re.search(pattern, line)), printed.strip()[:200])


def replay(old: str = "", new: str = "") -> str:
    """The spec of a recorded table, with one thing replaced, or with something at its end."""
    return REPLAY.replace(old, new) if old else REPLAY + new


def server(old: str = "", new: str = "") -> str:
    """The spec of a server, likewise."""
    return SERVER.replace(old, new) if old else SERVER + new


def spec(kind: str, what: str, text: str | bytes, code: int, says: str, **more: str | bytes) -> Case:
    """A spec to validate; `more` are files beside it, whose names have `__` for the dot."""
    files = {name.replace("__", "."): content for name, content in more.items()}
    return Case(kind, what, code, says, files={"spec.yaml": text, **files})


def traffic(kind: str, what: str, content: str | bytes, code: int, says: str) -> Case:
    """A trace to plan the good run for."""
    return Case(kind, what, code, says, ("plan", "good", "--traffic", "t.csv"), {"t.csv": content})


def warm_start(kind: str, what: str, content: str | bytes, code: int, says: str, name: str = "w.csv") -> Case:
    """Another tool's file to start from."""
    words = ("--service", "spec.yaml", "--budget", "2", "--output", "new", "--warm-start", name)
    return Case(kind, what, code, says, words, {name: content})


def baseline(kind: str, what: str, content: str | bytes, code: int, says: str) -> Case:
    """A baseline for the gate."""
    return Case(kind, what, code, says, ("gate", "good", "--baseline", "b.json"), {"b.json": content})
