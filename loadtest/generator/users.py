"""The Locust side: a user whose one task is the search, on Locust's local runner; more processes where they help.

Importing Locust patches the whole process (gevent), so only the generator's process does, before anything else.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import gevent
import locust
import locust.stats
from gevent.event import AsyncResult
from locust import User, task
from locust.env import Environment

from loadtest.arrivals.arrivals import Arrivals
from loadtest.arrivals.trace import TraceError, read_trace
from loadtest.generator.background import BackgroundLoad
from loadtest.generator.fleet import Fleet, GeneratorLost, Worker
from loadtest.generator.joint import LoadedTarget, common, measure_jointly
from loadtest.generator.load import LocalLoad
from loadtest.generator.locustfile import LocustTasks, load_users, locust_environment, parsed_options, runner_of
from loadtest.generator.probe.server import ServerUnderTest
from loadtest.generator.reporter import ProgressReporter
from loadtest.generator.search import measure
from loadtest.generator.stages import with_stage_times
from loadtest.generator.wire.prefix_cache import CacheWatch
from loadtest.generator.wire.transport import Transport
from loadtest.plan import JointPlan, LoadPlan, Measurement, Progress
from loadtest.request.bodies import ALL, Share, read_bodies
from loadtest.request.limits import stall_tolerance_s
from loadtest.request.reply import Send
from loadtest.request.request_check import LocustfileError, PlanError

__all__ = ["load_users", "local_load", "parsed_options", "read_arrivals", "run", "sender", "work"]

_MOST_WORKERS = 8  # where no cores are its own: on a machine of 128 it would be 128 processes for one load
_GC_THRESHOLD = 50_000  # a collection stops every request that is in flight


def run(plan: LoadPlan | JointPlan, report: Callable[[Progress], None]) -> Measurement:
    """Blocks until the search ends. Raises PlanError, and GeneratorLost when a worker process dies."""
    started = time.perf_counter()
    _prepare_process()
    done: AsyncResult[Measurement] = AsyncResult()
    plan = plan if isinstance(plan, LoadPlan) else common(plan)
    sending = [sender(one, done.set_exception) for one in plan.plans]
    sources = [(one, read_arrivals(one), send) for one, (send, _) in zip(plan.plans, sending, strict=True)]
    environment = next((one for _, one in sending if one is not None), Environment(events=locust.events))

    class Searcher(User):
        host = plan.plans[0].url

        @task
        def search(self) -> None:
            try:
                with contextlib.ExitStack() as stack:
                    reporter = stack.enter_context(ProgressReporter(report, started, plan.max_s))
                    endpoints = [_endpoint(*source, reporter, stack) for source in sources]
                    done.set(_measure(plan, endpoints, reporter))
            except Exception as error:  # noqa: BLE001 (carried to the caller, who raises it)
                done.set_exception(error)
            gevent.sleep(3600)

    environment.user_classes = [Searcher]
    runner = runner_of(environment)
    runner.start(1, spawn_rate=1)
    try:
        found: Measurement = done.get()
        return found
    finally:
        runner.stop()


def _measure(
    plan: LoadPlan | JointPlan, endpoints: Sequence[ServerUnderTest], reporter: ProgressReporter
) -> Measurement:
    if isinstance(plan, LoadPlan):
        return with_stage_times(plan, measure(plan, endpoints[0], reporter), endpoints, reporter)
    count = len(plan.targets)
    services = [LoadedTarget(*pair) for pair in zip(plan.targets, endpoints[:count], strict=True)]
    background = [BackgroundLoad(*pair) for pair in zip(plan.background, endpoints[count:], strict=True)]
    return measure_jointly(plan, services, reporter, background)


def _endpoint(
    plan: LoadPlan, arrivals: Arrivals, send: Send, reporter: ProgressReporter, stack: contextlib.ExitStack
) -> ServerUnderTest:
    """What loads one endpoint: this process, and more of them where it asks for them; they end with the stack."""
    alone = _load(plan, send, arrivals)
    cache = None if plan.prefix_cache is None else CacheWatch(plan, plan.prefix_cache)
    endpoint = ServerUnderTest(plan, send, alone, arrivals, reporter, cache)

    def reinforce(processes: int) -> None:
        endpoint.load = stack.enter_context(Fleet(plan, processes))

    if plan.workers > 1 or plan.remote_workers:
        reinforce(plan.workers if plan.workers > 1 or not plan.remote_workers else 0)
    elif (cores := len(plan.cores) or min(_MOST_WORKERS, len(os.sched_getaffinity(0)))) > 1:
        endpoint.reinforce = lambda: reinforce(cores)
    return endpoint


def work(address: str, core: int | None) -> None:
    """Be a worker of the master at `host:port` until it quits. Raises GeneratorLost when there is none."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    _prepare_process()
    host, _, port = address.rpartition(":")
    try:
        Worker(host, int(port), local_load).serve()
    except (ConnectionError, ValueError) as error:
        raise GeneratorLost(f"no master at {address}: {error}") from error


def local_load(plan: LoadPlan, part: int, parts: int) -> LocalLoad:
    """A worker's part of the load."""
    send, environment = sender(plan, _end_worker, Share(part, parts))
    if environment is not None:
        runner_of(environment)
    return _load(plan, send, read_arrivals(plan), part, parts)


def _load(plan: LoadPlan, send: Send, arrivals: Arrivals, part: int = 0, parts: int = 1) -> LocalLoad:
    streaming = plan.request.stream is not None
    return LocalLoad(send, arrivals, stall_tolerance_s(plan), streaming=streaming, part=part, parts=parts)


def read_arrivals(plan: LoadPlan) -> Arrivals:
    """The plan's arrivals. Raises PlanError for a trace that is none."""
    try:
        return Arrivals(plan, None if plan.trace is None else read_trace(Path(plan.trace)))
    except TraceError as error:
        raise PlanError(f"trace: {error}") from error


def sender(
    plan: LoadPlan, on_fault: Callable[[LocustfileError], None], share: Share = ALL
) -> tuple[Send, Environment | None]:
    """What sends one request: ours, or a task of the user's locustfile with Locust's environment for it. `on_fault`
    hears of an error that is the file's own. Raises PlanError.
    """
    if plan.request.protocol == "v2-grpc":
        from loadtest.generator.wire.grpc_transport import GrpcTransport

        return GrpcTransport(plan, read_bodies(plan.request), share).send, None
    if plan.locustfile is None:
        return Transport(plan, read_bodies(plan.request), share).send, None
    path = plan.locustfile
    users = load_users(path)
    environment = locust_environment(path, users, plan.url)
    return LocustTasks(
        environment, users, path, plan.url, plan.request_timeout_s, share.seed(plan.seed), on_fault
    ).send, environment


def _end_worker(error: LocustfileError) -> None:
    """The master says that a worker ended; this one says why."""
    sys.stderr.write(f"python -m loadtest: {error}\n")
    os._exit(1)


def _prepare_process() -> None:
    # Locust's own statistics round percentiles; ours come from the histogram, and no console is there to print on.
    locust.stats.CONSOLE_STATS_INTERVAL_SEC = 3600
    sys.setswitchinterval(1e-4)
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
