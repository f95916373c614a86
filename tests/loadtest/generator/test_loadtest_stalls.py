"""A generator that stood still does not blame the server for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from loadtest import LatencyLimit, LoadGenerator, LoadPlan, Progress, RequestPlan, Slo
from loadtest.request.limits import Limit, stall_tolerance_s, tolerance_s
from loadtest.request.reply import GOOD, Reply
from loadtest.request.request_log import RequestLog
from loadtest.slo import Metric

SERVER = Path(__file__).parent.parent / "timed_server.py"


@pytest.mark.alone
@pytest.mark.usefixtures("needs_machine")
def test_a_generator_that_was_stopped_for_a_moment_leaves_that_moment_out() -> None:
    """4 ms of service at 60 requests/s: p99 is 10 ms, and no request would miss 40 ms. The stops last 120 ms."""
    server = subprocess.Popen([sys.executable, str(SERVER), "--service-ms", "4"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    plan = LoadPlan(
        url=f"http://127.0.0.1:{int(server.stdout.readline())}", request=RequestPlan(body="{}"),
        slo=Slo(latency=(LatencyLimit(percentile=99, limit_ms=40),)), first_rate_qps=60, max_s=14, precision=0.9,
    )  # fmt: skip
    probing = threading.Event()

    def note(progress: Progress) -> None:
        if progress.phase == "probe":
            probing.set()

    with LoadGenerator() as generator:
        (child,) = [one for one in psutil.Process().children() if "loadtest" in one.cmdline()]

        def stop_it() -> None:
            probing.wait(20)
            time.sleep(0.3)
            os.kill(child.pid, signal.SIGSTOP)
            time.sleep(0.12)
            os.kill(child.pid, signal.SIGCONT)

        stopper = threading.Thread(target=stop_it)
        stopper.start()
        found = generator.measure(plan, note)
        stopper.join()
    server.kill()
    server.communicate()
    first = found.probes[0]
    assert first.disturbed > 0
    assert first.misses <= 0.02 * first.requests
    assert found.outcome == "measured"


def test_a_request_without_an_answer_has_waited_until_now_and_missed() -> None:
    sent = RequestLog(1)
    for due in (1.0, 2.0, 3.0):
        sent.schedule(due)
    sent.finish(0, 0.010, GOOD)
    sent.finish(1, 0.010, Reply("http 500"))
    counted = sent.between(0.0, 10.0)
    assert sent.values("latency").tolist() == [0.010, float("inf"), float("inf")]
    assert sent.waited(counted, 5.0).tolist() == [0.010, 0.010, 2.0]
    assert sent.kinds_of(counted) == {"http 500": 1}
    assert sent.kinds_of(sent.between(0.0, 1.5)) == {}


def test_what_several_generators_sent_is_one_in_the_order_of_the_schedule() -> None:
    one, other = RequestLog(10), RequestLog(10)
    for due in (1.0, 3.0):
        one.finish(one.schedule(due), due / 100, GOOD)
    other.finish(other.schedule(2.0), 0.02, Reply("http 500"))
    both = RequestLog.merged([one, other])
    assert both.scheduled.tolist() == [1.0, 2.0, 3.0]
    assert both.latency.tolist() == [0.01, 0.02, 0.03]
    assert both.kinds == {1: "http 500"}


def test_times_of_a_stream_count_from_the_schedule() -> None:
    sent = RequestLog(10, streaming=True)
    number = sent.schedule(1.0)
    sent.late[number] = 0.5
    gaps = [0.05] * 9 + [0.55]
    sent.finish(number, 1.6, Reply(first_token_s=0.1, last_token_s=1.1, tokens=11, input_tokens=7, gaps_s=gaps))
    assert sent.values("ttft").tolist() == pytest.approx([0.6])
    assert sent.values("tpot").tolist() == pytest.approx([0.1])
    assert sent.values("itl", of_gaps=90).tolist() == pytest.approx([0.05])
    assert sent.values("itl", of_gaps=99).tolist() == pytest.approx([0.55])
    assert sent.values("itl", of_gaps=80.5).tolist() == pytest.approx([0.05])
    assert sent.values("itl", of_gaps=99.95).tolist() == pytest.approx([0.55])
    assert sent.all_gaps(np.array([0])).tolist() == pytest.approx(gaps)
    assert [one.tolist() for one in sent.token_counts(np.array([0]))] == [[11], [7]]
    assert sent.values("per_token").tolist() == pytest.approx([1.6 / 11])


def test_a_request_is_good_when_it_holds_every_limit() -> None:
    """The second has a slow first token, the third slow ones after it, the fourth one long gap, the fifth failed."""
    sent = RequestLog(10, streaming=True)
    replies = [
        Reply(first_token_s=0.1, last_token_s=1.1, tokens=11, gaps_s=[0.1] * 10),
        Reply(first_token_s=0.3, last_token_s=1.3, tokens=11, gaps_s=[0.1] * 10),
        Reply(first_token_s=0.1, last_token_s=3.1, tokens=11, gaps_s=[0.3] * 10),
        Reply(first_token_s=0.1, last_token_s=1.5, tokens=11, gaps_s=[0.1] * 9 + [0.5]),
        Reply("http 500"),
    ]
    for reply in replies:
        sent.finish(sent.schedule(1.0), (reply.last_token_s or 0.1) + 0.01, reply)
    asked = LatencyLimit(metric="goodput", percentile=99, limit_ms=200, good_ms={"ttft": 200, "tpot": 150})
    limit = Limit.of(asked)
    assert (limit.values(sent) <= limit.limit_s).tolist() == [True, False, False, True, False]
    gaps = Limit.of(asked.model_copy(update={"good_ms": asked.good_ms | {"itl": 200}}))
    assert (gaps.values(sent) <= gaps.limit_s).tolist() == [True, False, False, False, False]
    assert str(limit) == "goodput 99% (ttft <= 200 ms, tpot <= 150 ms)"


def test_goodput_names_the_limits_of_a_good_request() -> None:
    for wrong in ({"metric": "goodput"}, {"metric": "ttft", "good_ms": {"ttft": 1}}):
        with pytest.raises(ValueError, match="goodput needs good_ms"):
            LatencyLimit(percentile=99, limit_ms=1, **wrong)


def plans(limits_ms: dict[Metric, float]) -> list[LoadPlan]:
    """With each of these limits, and with a goodput that is all of them."""
    each = [LatencyLimit(metric=metric, percentile=99, limit_ms=limit_ms) for metric, limit_ms in limits_ms.items()]
    good = LatencyLimit(metric="goodput", percentile=99, limit_ms=max(limits_ms.values()), good_ms=limits_ms)
    request = RequestPlan(stream="openai")
    return [LoadPlan(url="http://127.0.0.1:1", request=request, slo=Slo(latency=one)) for one in (tuple(each), (good,))]


@pytest.mark.parametrize(
    ("limits_ms", "tolerance_ms", "stall_ms"),
    [
        ({"latency": 500}, 50, 50),
        ({"ttft": 1000, "itl": 80}, 100, 8),
        ({"latency": 2000, "per_token": 100}, 200, 10),
        ({"ttft": 1000, "tpot": 50}, 100, 100),
        ({"itl": 200}, 20, 20),
        ({"latency": 20}, 5, 5),
    ],
)
def test_the_generator_may_be_late_by_a_part_of_the_times_that_it_makes_longer(
    limits_ms: dict[Metric, float], tolerance_ms: float, stall_ms: float
) -> None:
    """Who sends late makes no gap between tokens longer; who stands still does."""
    for plan in plans(limits_ms):
        assert tolerance_s(plan) * 1e3 == pytest.approx(tolerance_ms)
        assert stall_tolerance_s(plan) * 1e3 == pytest.approx(stall_ms)


_STANDS_STILL = """
import sys, time
from loadtest import LoadPlan
from loadtest.generator.load import LoadSegment
from loadtest.generator.users import local_load
import gevent
load = local_load(LoadPlan.model_validate_json(sys.stdin.read()), 0, 1)
load.start(LoadSegment(1.0, 0, 1.0))
gevent.sleep(0.1)
begun = time.perf_counter()
while time.perf_counter() < begun + 0.05:
    pass
gevent.sleep(0.1)
load.stop()
print(max((end - begin for begin, end in load.stalls()), default=0.0))
"""


@pytest.mark.usefixtures("needs_machine")
def test_a_standstill_that_widens_gaps_between_tokens_is_seen_beside_a_loose_limit_on_the_first() -> None:
    """50 ms of it make every stream in flight miss 30 ms between its tokens."""
    plan, _ = plans({"ttft": 1000, "itl": 30})
    command = [sys.executable, "-c", _STANDS_STILL]
    done = subprocess.run(command, input=plan.model_dump_json(), capture_output=True, text=True, check=True)
    assert float(done.stdout) >= 0.05
