"""Faults, each by really causing it: is anything orphaned, is a finished trial lost, does --resume complete?

    python -m benchmarks.faults process|docker|kubernetes [FAULT...] [--times 20] [--jobs 3]

Each time a small study is begun in real containers; when its first trial is finished and the second is where the fault
strikes, the fault is caused. Then `tune clean` must leave nothing, `--resume` must complete with every finished trial
as it was. Faults that strike one study alone are caused in several studies at once (`--jobs`). Processes are struck by
signals at random moments after the first trial, by a second run in their folder, and by servers that fill the disk (as
root alone), eat memory, flood their log, never end their headers, change their answers or scatter daemons. Containers
need root, the image small:1 (images/build small), and for Kubernetes KUBECONFIG of a cluster on this machine that may
be broken, whose API server runs as a process here.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
_SERVER = Path(__file__).parent.parent / "tests" / "servers" / "misbehaving.py"
_LATEST_S = 8.0  # after the first trial: within the second one, or while the best is measured again
_MODES = ("fill-disk", "eat-memory", "flood-log", "endless-headers", "changing-answers", "scatter")
_MEMORY = "cpu_cores: [1], memory: [256Mi]"
_LOG_BYTES = 64 << 20
LABEL = {"process": "TUNE_STUDY", "docker": "TUNE_STUDY", "kubernetes": "tune/study"}
PHASES = {"launch": "launch", "load": "probe", "teardown": "stop"}


class Run:
    """One study in a folder of its own."""

    def __init__(self, folder: Path, runner: str, image: str = "small:1") -> None:
        self.folder, self.runner, self.name = folder, runner, f"faults-{uuid.uuid4().hex[:8]}"
        spec = SPEC
        for old, new in PROCESS.items() if runner == "process" else ():
            spec = spec.replace(old, new)
        spec = spec.replace("SERVER", str(_SERVER))
        spec = spec.replace("IMAGE", image).replace("RUNNER", runner).replace("NAME", self.name)
        (folder / "spec.yaml").write_text(spec, encoding="utf-8")
        self.output = folder / "out"
        self.label = f"{LABEL[runner]}={self.name}"

    def command(self, *more: str) -> list[str]:
        words = ("--service", "spec.yaml", "--budget", "2", "--json", "--output", str(self.output))
        return [sys.executable, "-m", "tuner.cli", *words, *more]

    def environment(self) -> dict[str, str]:
        return os.environ | {"XDG_STATE_HOME": str(self.folder / "state")}

    def start(self, phase: str) -> subprocess.Popen[str]:
        """Begin, and return when the second trial is in that phase."""
        process = subprocess.Popen(
            self.command(), cwd=self.folder, env=self.environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        assert process.stderr is not None
        finished = False
        for line in process.stderr:
            event = json.loads(line) if line.startswith("{") else {}
            finished |= event.get("event") == "trial"
            if finished and event.get("event") == "phase" and event["name"].startswith(PHASES[phase]):
                return process
        raise AssertionError(f"the study ended before the phase {phase}")

    def end(self, process: subprocess.Popen[str]) -> int:
        assert process.stderr is not None
        process.stderr.read()
        return process.wait(240)

    def tune(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tuner.cli", *words], cwd=self.folder, env=self.environment(), capture_output=True,
            text=True, check=False, timeout=240,
        )  # fmt: skip

    def resume(self) -> int:
        return subprocess.run(
            self.command("--resume"), cwd=self.folder, env=self.environment(), capture_output=True, check=False,
            timeout=240,
        ).returncode  # fmt: skip

    def finished(self) -> dict[int, str]:
        """The trials that the study holds as finished, each with its time."""
        if not (self.output / "study.db").exists():
            return {}
        records = Archive(sqlite_url(self.output)).snapshot().records
        return {record.number: f"{record.state} {record.timing.wall_s}" for record in records}

    def orphans(self) -> list[str]:
        if self.runner == "process":
            return _marked(self.label)
        if self.runner == "docker":
            return _lines("docker", "ps", "-aq", "--filter", f"label={self.label}")
        kinds = "deployments,replicasets,pods,services,configmaps,secrets,jobs,leases"
        return _lines("kubectl", "get", kinds, "-l", self.label, "-o", "name")


def _marked(mark: str) -> list[str]:
    """The processes that carry a launch's mark in their environment, and have not ended."""
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if mark.encode() in Path(f"/proc/{one.pid}/environ").read_bytes() and one.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{one.pid} {' '.join(one.cmdline())[:60]}")
    return found


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def _daemon(command: list[str], folder: str | None) -> None:
    null = subprocess.DEVNULL
    subprocess.Popen(command, cwd=folder, stdin=null, stdout=null, stderr=null, start_new_session=True)


def kill(phase: str) -> Callable[[Run], None]:
    def strike(run: Run) -> None:
        process = run.start(phase)
        process.send_signal(signal.SIGKILL)
        run.end(process)

    return strike


def signalled(*numbers: signal.Signals) -> Callable[[Run], None]:
    """These signals, one after the other, at a random moment after the first trial."""

    def strike(run: Run) -> None:
        process = run.start("launch")
        time.sleep(random.uniform(0, _LATEST_S))
        for number in numbers:
            process.send_signal(number)
            time.sleep(random.uniform(0, 0.5))
        run.end(process)

    return strike


def misbehaving(mode: str) -> Callable[[Run], bool]:
    """A server that does so, in every trial; the run ends by itself, and has a finished trial for each. Where no disk
    is left, not even the study can be kept: then there is nothing to go on with.
    """

    def strike(run: Run) -> bool:
        if mode == "fill-disk":
            run.output.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", run.output], check=True)
        spec = run.folder / "spec.yaml"
        text = spec.read_text(encoding="utf-8").replace("children-at-work", mode).replace("cpu_cores: [1]", _MEMORY)
        spec.write_text(text.replace('"{service_ms}"]', '"{service_ms}", --fill, "{cache_dir}"]'), encoding="utf-8")
        done = subprocess.run(
            run.command(), cwd=run.folder, env=run.environment(), capture_output=True, text=True, check=False,
            timeout=240,
        )  # fmt: skip
        allowed = _COMPLETE if mode != "fill-disk" else (*_COMPLETE, 4)
        assert done.returncode in allowed, f"{mode}: exit code {done.returncode}: {done.stderr[-300:]}"
        assert "Traceback" not in done.stderr, done.stderr
        for log in run.output.rglob("server.log"):
            assert log.stat().st_size < _LOG_BYTES, f"{log} has {log.stat().st_size} bytes"
        for filler in run.output.rglob("filler"):
            filler.unlink()
        return mode != "fill-disk"

    return strike


def two_at_once(run: Run) -> None:
    """A second run in the same folder, and a third that would go on with it: refused, and the first is not troubled."""
    process = run.start("launch")
    process.send_signal(signal.SIGSTOP)  # lest it ends before the others have begun
    try:
        for more in ((), ("--resume",)):
            done = run.tune(*run.command(*more)[3:])
            assert done.returncode in (2, 4), f"the second run ended with {done.returncode}: {done.stderr[-300:]}"
    finally:
        process.send_signal(signal.SIGCONT)
    code = run.end(process)
    assert code in _COMPLETE, f"the first run ended with {code}"


def engine_restarts(run: Run) -> None:
    process = run.start("load")
    [engine] = [one for one in psutil.process_iter(["name"]) if one.info["name"] == "dockerd"]
    command = engine.cmdline()
    engine.terminate()
    engine.wait(30)
    time.sleep(2)
    _daemon(command, None)
    run.end(process)


def api_is_down(run: Run) -> None:
    process = run.start("load")
    [server] = [one for one in psutil.process_iter(["name"]) if one.info["name"] == "kube-apiserver"]
    command, folder = server.cmdline(), server.cwd()
    server.kill()
    time.sleep(20)
    _daemon(command, folder)
    while subprocess.run(["kubectl", "get", "--raw", "/readyz"], capture_output=True, check=False).returncode:
        time.sleep(0.5)
    run.end(process)


def pod_is_deleted(run: Run) -> None:
    process = run.start("load")
    if run.runner == "docker":
        subprocess.run(["docker", "rm", "-f", *run.orphans()], capture_output=True, check=True)
    else:
        subprocess.run(["kubectl", "delete", "pods", "-l", run.label], capture_output=True, check=True)
    run.end(process)


def node_is_cordoned(run: Run) -> None:
    [node] = _lines("kubectl", "get", "nodes", "-o", "name")
    process = run.start("load")
    subprocess.run(["kubectl", "cordon", node], capture_output=True, check=True)
    time.sleep(15)
    subprocess.run(["kubectl", "uncordon", node], capture_output=True, check=True)
    run.end(process)


def image_is_missing(run: Run) -> None:
    process = run.start("load")
    process.send_signal(signal.SIGINT)
    run.end(process)
    spec = run.folder / "spec.yaml"
    text = spec.read_text(encoding="utf-8")
    spec.write_text(text.replace("small:1", "localhost:1/none:1"), encoding="utf-8")
    code = subprocess.run(
        [*run.command(), "--output", str(run.folder / "none")], cwd=run.folder, env=run.environment(),
        capture_output=True, check=False, timeout=240,
    ).returncode  # fmt: skip
    assert code == 4, code
    spec.write_text(text, encoding="utf-8")


def disk_is_full(run: Run) -> None:
    run.output.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", run.output], check=True)
    process = run.start("load")
    filler = run.output / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(b"x" * 65_536)
            file.flush()
    run.end(process)
    filler.unlink()


FAULTS: dict[str, tuple[Callable[[Run], bool | None], tuple[str, ...]]] = {
    "SIGKILL": (signalled(signal.SIGKILL), ("process",)),
    "SIGTERM": (signalled(signal.SIGTERM), ("process",)),
    "SIGINT twice": (signalled(signal.SIGINT, signal.SIGINT), ("process",)),
    "SIGHUP": (signalled(signal.SIGHUP), ("process",)),
    "two runs in one folder": (two_at_once, ("process",)),
    **{f"server: {mode}": (misbehaving(mode), ("process",)) for mode in _MODES},
    "kill mid-launch": (kill("launch"), ("docker", "kubernetes")),
    "kill mid-load": (kill("load"), ("docker", "kubernetes")),
    "kill mid-teardown": (kill("teardown"), ("docker", "kubernetes")),
    "deleted by hand": (pod_is_deleted, ("docker", "kubernetes")),
    "image missing": (image_is_missing, ("docker", "kubernetes")),
    "disk full": (disk_is_full, ("docker", "kubernetes")),
    "engine restarted": (engine_restarts, ("docker",)),
    "API server down for 20 s": (api_is_down, ("kubernetes",)),
    "node cordoned": (node_is_cordoned, ("kubernetes",)),
}
_COMPLETE = (0, 3)  # on a machine that is busy with several studies the SLO may not hold when it is measured again
_FOR_ALL = ("engine restarted", "API server down for 20 s", "node cordoned")  # every study there feels them


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", f"{name}/out"], capture_output=True, check=False)


def once(fault: Callable[[Run], bool | None], runner: str) -> list[str]:
    """What went wrong; nothing as a rule."""
    wrong: list[Any] = []
    with _folder() as folder:
        run = Run(folder, runner)
        try:
            goes_on = fault(run)
            cleaned = run.tune("clean")
            if left := run.orphans():
                wrong.append(f"orphans after tune clean ({cleaned.stdout.strip()} {cleaned.stderr.strip()}): {left}")
            if goes_on is False:
                return [str(one) for one in wrong]
            before = run.finished()
            if not before:
                wrong.append("the finished trial is lost")
            if (code := run.resume()) not in _COMPLETE:
                wrong.append(f"--resume ended with {code}")
            after = run.finished()
            if any(after.get(number) != found for number, found in before.items()) or len(after) < 2:
                wrong.append(f"before {before}, after {after}")
            if left := run.orphans():
                wrong.append(f"orphans after --resume: {left}")
        except (AssertionError, subprocess.SubprocessError) as error:
            wrong.append(f"{type(error).__name__}: {error}")
    return [str(one) for one in wrong]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runner", choices=list(LABEL))
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=", ".join(map(shlex.quote, FAULTS)))
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1, help="studies at once, where a fault strikes one study alone")
    options = parser.parse_args()
    bad = 0
    for name, (fault, where) in FAULTS.items():
        if options.runner not in where or (options.faults and name not in options.faults):
            continue
        begun, good = time.monotonic(), 0
        with ThreadPoolExecutor(1 if name in _FOR_ALL else options.jobs) as pool:
            found = list(pool.map(once, [fault] * options.times, [options.runner] * options.times))
        for number, wrong in enumerate(found):
            good += not wrong
            for text in wrong:
                print(f"  {name}, time {number + 1}: {text}", flush=True)
        bad += options.times - good
        seconds = (time.monotonic() - begun) / options.times
        print(
            f"{options.runner}: {name}: {good} of {options.times} without loss or orphan, {seconds:.0f} s each",
            flush=True,
        )
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
