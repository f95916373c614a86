"""What is written of a Prometheus is read as it is written, and refused in a line where it is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from results import ResultsError
from tests.loadtest.request.test_hostile_answers import head, once, serving
from tuner.commands.verify import VerifyOptions, live_steps, queries_of
from tuner.errors import TuneError, UnfitEnvironmentError, UsageError
from tuner.outcome.prometheus import Prometheus, read_recorded_rates
from tuner.outcome.traffic import read_traffic

BEGIN_S = 1_700_000_000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("prometheus:http://127.0.0.1:1", "needs a query"),
        ("prometheus:localhost:9090?query=up", "is not a URL"),
        ("prometheus:http://user:secret@127.0.0.1:1?query=up", "TUNE_PROMETHEUS_TOKEN"),
        ("prometheus:http://127.0.0.1:1?query=up&range=soon", "range=soon"),
        ("prometheus:http://127.0.0.1:1?query=up&range=0s", "no length of time"),
        ("prometheus:http://127.0.0.1:1?query=up&end=tomorrow", "end=tomorrow is no time"),
    ],
)
def test_what_cannot_be_asked_is_said(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        read_recorded_rates(text)
    assert "secret" not in str(caught.value)


def test_where_nothing_answers_the_environment_is_unfit() -> None:
    with pytest.raises(UnfitEnvironmentError, match=r"no answer from Prometheus at http://127\.0\.0\.1:1"):
        read_recorded_rates('prometheus:http://127.0.0.1:1?query=sum(rate(a{b="c&d=+"}[5m])) + 1&range=7d')
    assert issubclass(UnfitEnvironmentError, TuneError)


def recorded(values: list[str], begin_s: float = BEGIN_S) -> bytes:
    """As Prometheus answers: one series, a value a minute."""
    series = [{"metric": {}, "values": [[begin_s + 60 * at, value] for at, value in enumerate(values)]}]
    body = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series if values else []}})
    return head(b"200 OK", b"Content-Length: " + str(len(body)).encode()) + body.encode()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (["1", "1e300", "5"], r"^up: a rate of 1\.00e\+300 requests/s, more than any traffic; is its unit right"),
        (["1e308", "1e308", "1e308"], "more than any traffic"),
        (["1", "+Inf", "5"], "a rate of inf requests/s; it must be a number of 0 or more"),
        (["1", "-3", "2"], "a rate of -3 requests/s; it must be a number of 0 or more"),
        (["NaN", "NaN"], "no series"),
        ([], "no series"),
        (["5"], "gives one value"),
        (["0", "0"], "no requests at all"),
        (["abc", "0"], "no numbers over time"),
    ],
)
def test_rates_that_no_service_has_are_refused(values: list[str], reason: str) -> None:
    with serving(once(recorded(values))) as url, pytest.raises((UsageError, ResultsError), match=reason) as caught:
        read_traffic(f"prometheus:{url}?query=up")
    assert len(str(caught.value).splitlines()) <= 3


def test_times_that_no_calendar_has_are_refused() -> None:
    with serving(once(recorded(["1", "2"], 1e300))) as url, pytest.raises(UsageError, match="no calendar has"):
        read_traffic(f"prometheus:{url}?query=up")


def test_a_moment_without_a_value_has_the_rate_before_it() -> None:
    with serving(once(recorded(["1", "NaN", "3", "7"]))) as url:
        assert read_traffic(f"prometheus:{url}?query=up").rates.tolist() == pytest.approx([1, 1, 3, 7])


def test_an_infinite_p99_is_not_left_out_of_what_is_compared() -> None:
    options = VerifyOptions.of({
        "folder": Path(), "prometheus": "", "metric": None, "rate": "r", "p99": "p", "replicas": "1", "length": 180.0,
        "step": 60.0, "end": BEGIN_S + 180.0, "false_alarms": 0.02, "detect": 0.15, "output": None, "as_json": False,
        "storage": None, "study": None,
    })  # fmt: skip
    with serving(once(recorded(["5", "+Inf", "5"]))) as url, pytest.raises(UsageError, match="gives infinite values"):
        live_steps(Prometheus(url), queries_of(options), options)
