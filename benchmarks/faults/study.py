"""A small study that a fault strikes: how it is begun and gone on with, what it has printed, and what is left of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import psutil

from tuner.study.storage.archive import Archive
from tuner.study.storage.connection import sqlite_url

SPEC = """\
version: 1
service:
  name: NAME
  image: IMAGE
  command:
    [python3, misbehaving.py, --mode, slow-start, --host, "{host}", --port, "{port}", --service-ms, "{service_ms}"]
  ready: {path: /healthz, timeout: 60s}
request: {path: /predict, json: {x: 1}}
slo: {p99: 1s}
objective: {maximize: capacity_qps}
space: {parameters: {cpu_cores: [0.5], service_ms: [5, 10]}}
load: {max_trial: 6s, max_warmup: 1s}
runner: {type: RUNNER, kubernetes: {load: port-forward, room_timeout: 60s}}
"""
# As processes: `tests/servers/misbehaving.py`, whose child outlives it where it is not ended.
PROCESS = {
    "  image: IMAGE\n": "",
    "[python3, misbehaving.py, --mode, slow-start,": f"[{sys.executable}, SERVER, --mode, children-at-work,",
    "cpu_cores: [0.5]": "cpu_cores: [1]",
    ", kubernetes: {load: port-forward, room_timeout: 60s}": "",
    "max_trial: 6s, max_warmup: 1s": "max_trial: 3s, max_warmup: 0.5s",
    "{maximize: capacity_qps}": "{maximize: capacity_qps, final: 20%}",
}
COMPLETE = (0, 3)  # on a machine that is busy with several studies the SLO may not hold when it is measured again
LABEL = {"process": "TUNE_STUDY", "docker": "TUNE_STUDY", "kubernetes": "tune/study"}
PHASES = {"launch": ("launch",), "load": ("warm", "probe"), "teardown": ("stop",)}
_SERVER = Path(__file__).parents[2] / "tests" / "servers" / "misbehaving.py"
_KINDS = "deployments,replicasets,pods,services,configmaps,secrets,jobs,leases"
_WORDS = ("Traceback", "internal error")
_LONGEST_S = 600.0  # on a machine that is busy with much else a study takes minutes
_LOOK_S = 0.05
_STARTING_S = 10.0  # a load generator that has just been started ends once it sees that the tuner is gone


class Run:
    """One study in a folder of its own, which holds its state and its temporary files, too. `whole_s` is how long such
    a study takes that nothing strikes; `struck` says when it was struck.
    """

    def __init__(self, folder: Path, runner: str, whole_s: float, image: str = "small:1", name: str = "") -> None:
        self.folder, self.runner, self.whole_s = folder, runner, whole_s
        self.name = name or f"faults-{uuid.uuid4().hex[:8]}"
        spec = SPEC
        for old, new in PROCESS.items() if runner == "process" else ():
            spec = spec.replace(old, new)
        spec = spec.replace("SERVER", str(_SERVER))
        spec = spec.replace("IMAGE", image).replace("RUNNER", runner).replace("NAME", self.name)
        (folder / "spec.yaml").write_text(spec, encoding="utf-8")
        (folder / "tmp").mkdir()
        self.output, self._printed = folder / "out", folder / "printed"
        self.label = f"{LABEL[runner]}={self.name}"
        self.struck = ""
        self._process: subprocess.Popen[bytes] | None = None

    def command(self, *more: str) -> list[str]:
        words = ("--service", "spec.yaml", "--budget", "2", "--json", "--output", str(self.output))
        return [sys.executable, "-m", "tuner.cli", *words, *more]

    def environment(self) -> dict[str, str]:
        return os.environ | {"XDG_STATE_HOME": str(self.folder / "state"), "TMPDIR": str(self.folder / "tmp")}

    def begin(self) -> subprocess.Popen[bytes]:
        """Begin it, in a session of its own, as a terminal would; return once the study is there."""
        with self._printed.open("wb") as printed:
            self._process = subprocess.Popen(
                self.command(), cwd=self.folder, env=self.environment(), stderr=printed, stdout=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        self._await("study", bool)
        return self._process

    def start(self, phase: str) -> subprocess.Popen[bytes]:
        """Begin it, and return when the second trial is in that phase."""
        process = self.begin()
        self._await(phase, lambda events: _second_is_in(events, PHASES[phase]))
        return process

    def _await(self, what: str, come: Any) -> None:
        assert self._process is not None
        while not come(self.events()):
            assert self._process.poll() is None, f"the study ended before: {what}: {self.said()[-300:]}"
            time.sleep(_LOOK_S)

    def end(self, process: subprocess.Popen[bytes]) -> int:
        """Its exit code, once it has ended. Raises TimeoutExpired where it hangs, AssertionError for a traceback."""
        code = process.wait(_LONGEST_S)
        refuse_traceback(self.said())
        return code

    def said(self) -> str:
        """What the study has printed to standard error so far, without its events."""
        return "".join(line for line in self._lines() if not line.startswith("{"))

    def events(self) -> list[dict[str, Any]]:
        """The events that the study has printed so far."""
        return [json.loads(line) for line in self._lines() if line.startswith("{") and line.endswith("\n")]

    def _lines(self) -> list[str]:
        return self._printed.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)

    def tune(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Another command of the same user. Raises as `end`."""
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tuner.cli", *words], cwd=self.folder, env=self.environment(),
                capture_output=True, text=True, check=False, timeout=_LONGEST_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            said = (error.stderr or b"").decode(errors="replace")
            raise AssertionError(f"tune {' '.join(words[:3])} hangs; it said last: {said[-500:]}") from error
        refuse_traceback(done.stderr)
        return done

    def again(self, *more: str) -> subprocess.CompletedProcess[str]:
        """The study's own command once more, to its end. Raises as `end`."""
        return self.tune(*self.command(*more)[3:])

    def announced(self) -> set[int]:
        """The trials that the study has said to be over."""
        return {one["record"]["number"] for one in self.events() if one["event"] == "trial"}

    def finished(self) -> dict[int, str]:
        """The trials that the study holds as finished, each with its time."""
        if not (self.output / "study.db").exists():
            return {}
        records = Archive(sqlite_url(self.output)).snapshot().records
        return {record.number: f"{record.state} {record.timing.wall_s}" for record in records}

    def failed(self) -> dict[int, str]:
        """Why trials have failed, but for those that this machine gave too little time."""
        records = Archive(sqlite_url(self.output)).snapshot().records
        failed = {record.number: record.reason or "" for record in records if record.state == "failed"}
        return {number: reason for number, reason in failed.items() if not reason.startswith("too short to tell")}

    def launched(self) -> list[str]:
        """The servers that are there: processes, containers, or objects of the cluster."""
        if self.runner == "docker":
            return _words("docker", "ps", "-aq", "--filter", f"label={self.label}")
        if self.runner == "kubernetes":
            return _words("kubectl", "get", _KINDS, "-l", self.label, "-o", "name")
        return _marked(self.label)

    def left(self) -> list[str]:
        """What there should not be once no command of the study runs: servers, processes, leases, temporary files."""
        end = time.monotonic() + _STARTING_S
        while (processes := _marked(f"TMPDIR={self.folder}")) and time.monotonic() < end:
            time.sleep(_LOOK_S)
        files = [*(self.folder / "tmp").iterdir(), *(self.folder / "state" / "tune" / "leases").glob("*")]
        return [*self.launched(), *processes, *map(str, files)]

    def give_up(self) -> None:
        """End the study where a fault's cause failed."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(_LONGEST_S)


def refuse_traceback(text: str) -> None:
    """Raises AssertionError where a command's words hold one, or name an internal error."""
    assert not any(word in text for word in _WORDS), text[-1500:]


def _second_is_in(events: list[dict[str, Any]], phase: tuple[str, ...]) -> bool:
    over = next((number for number, one in enumerate(events) if one["event"] == "trial"), len(events))
    return any(one["event"] == "phase" and one["name"].startswith(phase) for one in events[over:])


def _marked(mark: str) -> list[str]:
    """The processes that carry a mark in their environment, and have not ended."""
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if mark.encode() in Path(f"/proc/{one.pid}/environ").read_bytes() and one.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{one.pid} {' '.join(one.cmdline())[:60]}")
    return found


def _words(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
