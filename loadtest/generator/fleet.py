"""Several generator processes that share one load, by Locust's distributed mode: a master here, workers anywhere.

All know the same schedule; each sends its part of the arrivals, every so many-th, and reports what became of them. So
the arrivals are those that one process would have sent, and histograms and verdicts are made in one place.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import gevent
import numpy as np
from gevent.event import Event
from locust.env import Environment
from locust.event import Events

from loadtest.generator.load import Effort, LoadSegment, LocalLoad
from loadtest.generator.stalls import Stall
from loadtest.plan import LoadPlan
from loadtest.request.request_check import PlanError
from loadtest.request.request_log import STREAM_ROWS, RequestLog

_ARMED_S = 30.0  # imports, and a data set that has to travel
_ANSWER_S = 5.0
_REPORT_S = 0.2


class GeneratorLost(Exception):
    """A generator process did not come, or went away. Says which."""


class _WorkerReports:
    """What the master knows of one worker."""

    def __init__(self, part: int) -> None:
        self.part, self.sent, self.begun, self.known_until = part, RequestLog(0), 0.0, 0.0
        self.in_flight, self.effort = 0, Effort(0.0, 0.0)
        self.stalls: list[Stall] = []
        self.armed, self.stopped, self.drained = Event(), Event(), Event()

    def take(self, report: dict[str, Any]) -> None:
        """Add what is new; times are relative to the start of the stretch."""
        for offset in np.frombuffer(report["scheduled"]):
            self.sent.schedule(self.begun + float(offset))
        numbers = np.frombuffer(report["numbers"], dtype=np.int64)
        self.sent.latency[numbers] = np.frombuffer(report["latency"])
        self.sent.late[numbers] = np.frombuffer(report["late"])
        if self.sent.stream is not None and len(numbers):
            self.sent.stream[:, numbers] = np.frombuffer(report["stream"]).reshape(STREAM_ROWS, -1)
        self.sent.gaps |= {number: array("f", gaps) for number, gaps in report["gaps"]}
        for number, kind in report["kinds"]:
            self.sent.failed[number], self.sent.kinds[number] = True, kind
        self.known_until = self.begun + report["elapsed"]
        self.sent.tokens, self.in_flight, self.effort = report["tokens"], report["in_flight"], Effort(*report["effort"])
        self.stalls = [(self.begun + begin, self.begun + end) for begin, end in report["stalls"]]


class Fleet:
    """A `Load` from several processes. Use as a context: leaving it ends those that it started."""

    def __init__(self, plan: LoadPlan, here: int) -> None:
        """`here` processes are started on this machine, on the plan's cores; the plan's remote ones are awaited."""
        self.workers = here + plan.remote_workers
        self._plan, self._here = plan, here
        self._streaming = plan.request.stream is not None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._parts: dict[str, _WorkerReports] = {}
        self._failed = ""

    def __enter__(self) -> Fleet:
        host, _, port = self._plan.listen.rpartition(":")
        self._master = Environment(events=Events()).create_master_runner(host, int(port))
        for name in ("hello", "armed", "failed", "report", "stopped", "drained"):
            self._master.register_message(name, self._on_message)
        cores = self._plan.cores or tuple(sorted(os.sched_getaffinity(0)))
        address = f"127.0.0.1:{self._master.server.port}"
        for number in range(self._here):
            command = [sys.executable, "-P", "-m", "loadtest", "--worker", address, "--parent", str(os.getpid())]
            command += ["--core", str(cores[number % len(cores)])]
            self._processes.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2)  # what they print goes to standard error
            )
        try:
            self._await(lambda: len(self._parts) == self.workers, _ARMED_S, "connect")
            for part in self._parts.values():
                self._await(part.armed.is_set, _ARMED_S, "get ready")
        except GeneratorLost:
            self.__exit__()  # the other workers wait for a word
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._master.quit()
        for process in self._processes:
            process.kill()
            process.wait()

    def start(self, asked: LoadSegment) -> float:
        """See `Load`. Workers start when they hear of it, within milliseconds of each other."""
        begun = time.perf_counter()
        for part in self._parts.values():
            part.sent, part.in_flight, part.stalls = RequestLog(1000, streaming=self._streaming), 0, []
            part.begun = part.known_until = begun
            part.stopped.clear()
            part.drained.clear()
        self._master.send_message("load_start", vars(asked))
        return begun

    def sent(self) -> RequestLog:
        """See `Load`."""
        return RequestLog.merged([part.sent for part in self._parts.values()])

    def known_until(self) -> float:
        """See `Load`: what the slowest worker has reported."""
        return min(part.known_until for part in self._parts.values())

    def in_flight(self) -> int:
        """See `Load`."""
        return sum(part.in_flight for part in self._parts.values())

    def stalls(self) -> Sequence[Stall]:
        """See `Load`."""
        return [stall for part in self._parts.values() for stall in part.stalls]

    def stop(self) -> Effort:
        """See `Load`."""
        self._master.send_message("load_stop")
        for part in self._parts.values():
            self._await(part.stopped.is_set, _ANSWER_S, "stop")
        efforts = [part.effort for part in self._parts.values()]
        return Effort(max(one.cores for one in efforts), max(one.starved for one in efforts))

    def drain(self, max_wait_s: float) -> None:
        """See `Load`."""
        self._master.send_message("load_drain", {"max_wait_s": max_wait_s})
        for part in self._parts.values():
            self._await(part.drained.is_set, max_wait_s + _ANSWER_S, "drain")

    def _on_message(self, msg: Any, **_: object) -> None:
        if msg.type == "hello":
            if msg.node_id not in self._parts and len(self._parts) == self.workers:
                return  # one more than the plan asks for has no part in the arrivals
            part = self._parts.setdefault(msg.node_id, _WorkerReports(len(self._parts)))
            share = {"plan": self._plan.model_dump_json(), "part": part.part, "parts": self.workers}
            self._master.send_message("load_plan", share, msg.node_id)
            return
        part = self._parts[msg.node_id]
        if msg.type == "failed":
            self._failed = msg.data["why"]
        elif msg.type == "report":
            part.take(msg.data)
        else:
            {"armed": part.armed, "stopped": part.stopped, "drained": part.drained}[msg.type].set()

    def _await(self, done: Any, at_most_s: float, what: str) -> None:
        until = time.perf_counter() + at_most_s
        while not done():
            gone = [process.pid for process in self._processes if process.poll() is not None]
            if self._failed:
                raise GeneratorLost(f"a load generator worker did not {what}: {self._failed}")
            if gone or time.perf_counter() > until:
                why = f"process {gone[0]} ended" if gone else f"no answer in {at_most_s:g} s"
                raise GeneratorLost(f"a load generator worker did not {what}: {why}")
            gevent.sleep(0.005)


class Worker:
    """One worker: does what the master says until it is told to quit."""

    def __init__(self, host: str, port: int, make_load: Callable[[LoadPlan, int, int], LocalLoad]) -> None:
        """`make_load` makes this worker's part of a plan's load: the how-many-eth of how many."""
        self._make_load = make_load
        self._runner = Environment(events=Events()).create_worker_runner(host, port)
        self._load: LocalLoad | None = None
        self._reporting: gevent.Greenlet | None = None
        self._begun, self._scheduled = 0.0, 0
        self._reported = np.zeros(0, dtype=bool)
        for name in ("load_plan", "load_start", "load_stop", "load_drain"):
            # Locust has words of its own, such as "stop". While a drain waits, the master's next word must not.
            self._runner.register_message(name, self._on_message, concurrent=True)

    def serve(self) -> None:
        """Blocks until the master quits."""
        self._runner.send_message("hello")
        self._runner.greenlet.join()

    def _on_message(self, msg: Any, **_: object) -> None:
        if msg.type == "load_plan":
            plan = LoadPlan.model_validate_json(msg.data["plan"])
            try:
                self._load = self._make_load(plan, msg.data["part"], msg.data["parts"])
            except PlanError as error:  # a file or a secret that only the master's machine has
                self._runner.send_message("failed", {"why": str(error)})
                return
            self._runner.send_message("armed")
            return
        assert self._load is not None  # noqa: S101 (the plan comes first)
        if msg.type == "load_start":
            self._begun, self._scheduled, self._reported = (
                self._load.start(LoadSegment(**msg.data)),
                0,
                np.zeros(0, bool),
            )
            self._reporting = gevent.spawn(self._keep_reporting)
        elif msg.type == "load_stop":
            if self._reporting is not None:
                self._reporting.kill()
            self._report(self._load.stop())
            self._runner.send_message("stopped")
        else:
            self._load.drain(msg.data["max_wait_s"])
            self._runner.send_message("drained")

    def _keep_reporting(self) -> None:
        while True:
            gevent.sleep(_REPORT_S)
            self._report(Effort(0.0, 0.0))

    def _report(self, effort: Effort) -> None:
        """What is new since the last report."""
        assert self._load is not None  # noqa: S101
        elapsed, sent, count = time.perf_counter() - self._begun, self._load.sent(), self._load.sent().count
        self._reported = np.concatenate([self._reported, np.zeros(count - len(self._reported), dtype=bool)])
        numbers = np.flatnonzero(~np.isnan(sent.latency[:count]) & ~self._reported)
        self._reported[numbers] = True
        self._runner.send_message("report", {
            "scheduled": (sent.scheduled[self._scheduled : count] - self._begun).tobytes(),
            "numbers": numbers.astype(np.int64).tobytes(),
            "latency": sent.latency[numbers].tobytes(),
            "late": sent.late[numbers].tobytes(),
            "stream": b"" if sent.stream is None else sent.stream[:, numbers].tobytes(),
            "gaps": [(n, sent.gaps[n].tobytes()) for n in numbers.tolist() if n in sent.gaps],
            "kinds": [(int(number), sent.kinds[number]) for number in numbers.tolist() if number in sent.kinds],
            "tokens": sent.tokens,
            "elapsed": elapsed,
            "in_flight": self._load.in_flight(),
            "stalls": [(begin - self._begun, end - self._begun) for begin, end in self._load.stalls()],
            "effort": (effort.cores, effort.starved),
        })  # fmt: skip
        self._scheduled = count
