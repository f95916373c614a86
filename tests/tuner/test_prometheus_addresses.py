"""What is written of a Prometheus is read as it is written, and refused in a line where it is wrong."""

from __future__ import annotations

import pytest

from tuner.errors import TuneError, UnfitEnvironmentError, UsageError
from tuner.outcome.prometheus import read_recorded_rates


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
