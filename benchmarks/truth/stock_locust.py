"""Ordinary closed-loop Locust users, for comparison: `python -m benchmarks.truth.stock_locust URL ...`, one JSON line.

Each user waits so that all together send at the rate asked for, if answers take no time; 0 is as fast as they can.
"""

from __future__ import annotations

import json
import sys

import gevent
from locust import FastHttpUser, HttpUser, constant_pacing, task
from locust.env import Environment


def main() -> None:
    """URL, users, rate, seconds, `fast` or `http`."""
    url, users, rate, seconds, kind = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
    base: type = FastHttpUser if kind == "fast" else HttpUser

    class Stock(base):  # type: ignore[misc]
        host = url
        wait_time = constant_pacing(users / rate) if rate else lambda _: 0

        @task
        def get(self) -> None:
            self.client.get("/")

    environment = Environment(user_classes=[Stock])
    runner = environment.create_local_runner()
    runner.start(users, spawn_rate=1000)
    gevent.sleep(2)
    environment.stats.reset_all()
    gevent.sleep(seconds)
    total = environment.stats.total
    print(json.dumps({"p99_ms": total.get_response_time_percentile(0.99), "qps": total.num_requests / seconds}))
    runner.quit()


if __name__ == "__main__":
    main()
