"""Faults, each by really causing it: is anything orphaned, is a finished trial lost, does --resume complete?

    python -m benchmarks.faults process|docker|kubernetes [FAULT...] [--times 20] [--jobs 3]

A small study is begun in real processes, containers or pods, and the fault is caused: signals and what others do to the
servers at random moments of the whole run, the rest where it strikes. Then `tune clean` must leave nothing, neither
servers nor processes nor temporary files, `--resume` must complete with every finished trial as it was, and no command
may print a traceback. Faults that strike one study alone are caused in several studies at once (`--jobs`).

Processes are struck by signals, by a second run in their folder, and by servers that fill the disk (as root alone), eat
memory, flood their log, never end their headers, change their answers or scatter daemons. Containers need root, the
image small:1 (images/build small), and for Kubernetes KUBECONFIG of a cluster on this machine that may be broken, whose
API server and kubelet run as processes here.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.faults import misfortunes
from benchmarks.faults.strikes import kill, signalled
from benchmarks.faults.study import COMPLETE, LABEL, Run

Fault = Callable[[Run], bool | None]  # False: there is nothing to go on with

EVERYWHERE = ("process", "docker", "kubernetes")
CONTAINERS = ("docker", "kubernetes")
FAULTS: dict[str, tuple[Fault, tuple[str, ...]]] = {
    "SIGKILL": (signalled(signal.SIGKILL), EVERYWHERE),
    "SIGTERM": (signalled(signal.SIGTERM), EVERYWHERE),
    "SIGINT twice": (signalled(signal.SIGINT, signal.SIGINT), EVERYWHERE),
    "SIGHUP": (signalled(signal.SIGHUP), EVERYWHERE),
    "two runs in one folder": (misfortunes.two_in_one_folder, ("process",)),
    "two runs of one spec": (misfortunes.two_of_one_spec, EVERYWHERE),
    "tune clean meanwhile": (misfortunes.cleaned_meanwhile, EVERYWHERE),
    **{f"server: {mode}": (misfortunes.misbehaving(mode), ("process",)) for mode in misfortunes.MODES},
    "kill mid-launch": (kill("launch"), CONTAINERS),
    "kill mid-load": (kill("load"), CONTAINERS),
    "kill mid-teardown": (kill("teardown"), CONTAINERS),
    "deleted by hand": (misfortunes.deleted, CONTAINERS),
    "image missing": (misfortunes.image_is_missing, CONTAINERS),
    "disk full": (misfortunes.disk_is_full, CONTAINERS),
    "image removed": (misfortunes.image_vanishes, ("docker",)),
    "engine restarted": (misfortunes.engine_restarts, ("docker",)),
    "pod evicted": (misfortunes.evicted, ("kubernetes",)),
    "API server down for 20 s": (misfortunes.api_is_down, ("kubernetes",)),
    "kubelet stopped for 20 s": (misfortunes.kubelet_stands_still, ("kubernetes",)),
    "node cordoned": (misfortunes.node_is_cordoned, ("kubernetes",)),
}
# Every study there feels them.
_FOR_ALL = ("engine restarted", "API server down for 20 s", "kubelet stopped for 20 s", "node cordoned")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", f"{name}/out"], capture_output=True, check=False)


def once(fault: Fault, runner: str, whole_s: float) -> list[str]:
    """What went wrong; nothing as a rule."""
    with _folder() as folder:
        run = Run(folder, runner, whole_s)
        try:
            wrong = _struck(run, fault)
        except (AssertionError, subprocess.SubprocessError) as error:
            wrong = [f"{type(error).__name__}: {error}"]
            run.give_up()
            with contextlib.suppress(AssertionError, subprocess.SubprocessError):
                run.tune("clean")
    return [f"struck {run.struck}: {text}" if run.struck else text for text in wrong]


def _struck(run: Run, fault: Fault) -> list[str]:
    wrong = []
    goes_on = fault(run)
    cleaned = run.tune("clean")
    if left := run.left():
        wrong.append(f"left after tune clean ({cleaned.stdout.strip()} {cleaned.stderr.strip()}): {left}")
    if goes_on is False:
        return wrong
    before = run.finished()
    if lost := run.announced() - before.keys():
        wrong.append(f"finished trials are lost: {lost}")
    resumed = run.again("--resume")
    if resumed.returncode not in COMPLETE:
        wrong.append(f"--resume ended with {resumed.returncode}: {resumed.stderr[-300:]}")
    after = run.finished()
    if any(after.get(number) != found for number, found in before.items()) or len(after) < 2:
        wrong.append(f"before {before}, after {after}")
    if left := run.left():
        wrong.append(f"left after --resume: {left}")
    return wrong


def _undisturbed_s(runner: str) -> float:
    """How long such a study takes, from where it says that it has begun."""
    with _folder() as folder:
        run = Run(folder, runner, 0.0)
        process = run.begin()
        begun = time.monotonic()
        code = run.end(process)
        seconds = time.monotonic() - begun
        left = run.left()
        if code not in COMPLETE or left:
            run.tune("clean")
            sys.exit(f"a study that nothing strikes ended with {code}: {run.said()[-300:]}; left: {left}")
    return seconds


def main() -> None:
    """Print how each fault ended; the exit code is 1 where one did not end well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runner", choices=list(LABEL))
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=", ".join(map(shlex.quote, FAULTS)))
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1, help="studies at once, where a fault strikes one study alone")
    options = parser.parse_args()
    if unknown := set(options.faults) - FAULTS.keys():
        parser.error(f"there is no fault {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    whole_s, bad = _undisturbed_s(options.runner), 0
    for name, (fault, where) in FAULTS.items():
        if options.runner not in where or (options.faults and name not in options.faults):
            continue
        begun = time.monotonic()
        with ThreadPoolExecutor(1 if name in _FOR_ALL else options.jobs) as pool:
            found = list(pool.map(partial(once, fault, options.runner), [whole_s] * options.times))
        for number, wrong in enumerate(found):
            for text in wrong:
                print(f"  {name}, time {number + 1}: {text}", flush=True)
        good = sum(not wrong for wrong in found)
        bad += options.times - good
        seconds = (time.monotonic() - begun) / options.times
        print(
            f"{options.runner}: {name}: {good} of {options.times} without loss or leftover, {seconds:.0f} s each",
            flush=True,
        )
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
