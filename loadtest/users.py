"""The Locust side: one open-loop user whose requests the prober schedules. The only module that imports Locust.

Importing it patches the whole process (gevent), so only the generator's process does, before anything else.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import gevent
import locust.stats
from gevent.event import AsyncResult
from locust import User, task
from locust.env import Environment

from loadtest.plan import LoadPlan, Measurement, Progress
from loadtest.search import measure
from loadtest.transport import Transport

_GC_THRESHOLD = 50_000  # a collection stops every request that is in flight


def run(plan: LoadPlan, bodies: Sequence[bytes], report: Callable[[Progress], None]) -> Measurement:
    """Blocks until the search ends. What goes wrong inside the user is raised here."""
    done: AsyncResult[Measurement] = AsyncResult()
    # Locust's own statistics round percentiles; ours come from the histogram, and no console is there to print on.
    locust.stats.CONSOLE_STATS_INTERVAL_SEC = 3600
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)

    class OpenLoopUser(User):
        host = plan.url

        @task
        def search(self) -> None:
            try:
                done.set(measure(plan, Transport(plan, bodies).send, report))
            except Exception as error:  # noqa: BLE001 (carried to the caller, who raises it)
                done.set_exception(error)
            gevent.sleep(3600)

    environment = Environment(user_classes=[OpenLoopUser])
    runner = environment.create_local_runner()
    runner.start(1, spawn_rate=1)
    try:
        found: Measurement = done.get()
        return found
    finally:
        runner.stop()
