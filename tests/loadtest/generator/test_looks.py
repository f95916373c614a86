"""What a probe looks at while it runs, on a server that is a greenlet of the same process."""

from __future__ import annotations

import subprocess
import sys

PROBE = """\
import threading, time
import gevent
from loadtest import LatencyLimit, LoadPlan, RequestPlan, Slo
from loadtest.arrivals.arrivals import Arrivals
from loadtest.generator.load import LocalLoad
from loadtest.generator.probe.prober import OpenLoopProber, StopRule
from loadtest.generator.probe.server import ServerUnderTest
from loadtest.generator.reporter import ProgressReporter
from loadtest.request.reply import Reply
from loadtest.request.request_log import RequestLog

joined = set()


class Log(RequestLog):
    def all_gaps(self, counted):
        joined.add(threading.get_native_id())
        return super().all_gaps(counted)


class Load(LocalLoad):
    def sent(self):
        log = Log(0)
        log.__dict__.update(super().sent().__dict__)
        return log

    def stop(self):
        print(threading.get_native_id() in joined, len(joined) > 0)  # what is looked at afterwards holds nothing up
        return super().stop()


def send():
    gevent.sleep(0.02)
    return Reply(first_token_s=0.01, last_token_s=0.02, tokens=3, gaps_s=(0.005, 0.005))


plan = LoadPlan(
    url="http://127.0.0.1:1", request=RequestPlan(path="/", body="{}", stream="openai"),
    slo=Slo(latency=(LatencyLimit(metric="itl", percentile=95, limit_ms=500),)),
)
arrivals = Arrivals(plan, None)
reporter = ProgressReporter(lambda progress: None, time.perf_counter(), 20.0)
endpoint = ServerUnderTest(plan, send, Load(send, arrivals, 0.1, streaming=True), arrivals, reporter)
OpenLoopProber(endpoint, 0.02).probe(50.0, 2.0, stop=StopRule(enough=lambda verdict: False))
gevent.get_hub().threadpool.kill()
"""


def test_gaps_of_all_streams_are_joined_off_the_loop_that_lets_arrivals_go() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["False", "True"], done.stderr
