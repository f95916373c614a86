"""Recorded traffic, as people keep it: one reader for load tests and plans, and nothing guessed in silence."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from loadtest import TraceError, read_recorded, read_trace

HOUR = 3600.0
EPOCH = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)  # 1,700,000,000 s


@pytest.fixture(params=["UTC", "Europe/Berlin", "America/New_York"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's own zone, in which no trace is."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
    assert os.environ.get("TZ") != "nowhere"


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "trace.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize(
    ("stamps", "begins", "step_s"),
    [
        (("2016010100", "2016010101", "2016010102"), datetime(2016, 1, 1, tzinfo=UTC), HOUR),
        (("2016010100.0", "2016010101.0", "2016010102.0"), datetime(2016, 1, 1, tzinfo=UTC), HOUR),
        (("2016123122", "2016123123", "2017010100"), datetime(2016, 12, 31, 22, tzinfo=UTC), HOUR),
        (("20240512", "20240513", "20240514"), datetime(2024, 5, 12, tzinfo=UTC), 24 * HOUR),
        (("202405121300", "202405121305", "202405121310"), datetime(2024, 5, 12, 13, tzinfo=UTC), 300),
        (("20240512130000", "20240512130030", "20240512130100"), datetime(2024, 5, 12, 13, tzinfo=UTC), 30),
        (("1700000000", "1700000060", "1700000120"), EPOCH, 60),
        (("1700000000000", "1700000060000", "1700000120000"), EPOCH, 60),
        (
            ("1700000000000000", "1700000060000000", "1700000120000000"),
            EPOCH,
            60,
        ),
        (
            ("1700000000000000000", "1700000060000000000", "1700000120000000000"),
            EPOCH,
            60,
        ),
        (
            ("2023-11-16 18:15:46.6800000", "2023-11-16 18:16:46.6800000"),
            datetime(2023, 11, 16, 18, 15, 46, 680000, UTC),
            60,
        ),
        (
            ("2024-03-31 01:30:00", "2024-03-31 02:30:00", "2024-03-31 03:30:00"),
            datetime(2024, 3, 31, 1, 30, tzinfo=UTC),
            HOUR,
        ),
        (("2023-10-29T01:30:00+02:00", "2023-10-29T01:30:00Z"), datetime(2023, 10, 28, 23, 30, tzinfo=UTC), 2 * HOUR),
        (("2024-05-12 13:00:00 UTC", "2024-05-12 13:01:00 UTC"), datetime(2024, 5, 12, 13, tzinfo=UTC), 60),
        (("0", "60", "120"), None, 60),
        (("0.5", "60.5", "120.5"), None, 60),
    ],
)
def test_a_time_is_read_as_what_it_is(
    tmp_path: Path, stamps: tuple[str, ...], begins: datetime | None, step_s: float
) -> None:
    rows = "".join(f"{stamp},{7 + number}\n" for number, stamp in enumerate(stamps))
    found = read_recorded(write(tmp_path, f"timestamp,rate\n{rows}"))
    assert found.begins == begins
    assert found.times_s.tolist() == pytest.approx([number * step_s for number in range(len(stamps))], abs=1e-6)
    assert found.rates is not None
    assert found.rates.tolist() == [7 + number for number in range(len(stamps))]


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize("day", ["2024-03-31", "2023-10-29"])
def test_a_change_of_the_clocks_somewhere_is_none_in_a_trace(tmp_path: Path, day: str) -> None:
    begin = datetime.fromisoformat(day)
    rows = "".join(f"{begin + timedelta(minutes=10 * number)},{1 + number % 7}\n" for number in range(30))
    trace = read_trace(write(tmp_path, f"time,rate\n{rows}"))
    assert trace.cycle_s == 30 * 600
    assert trace.longest_step_s == 600


@pytest.mark.parametrize(
    ("head", "factor"),
    [
        ("time,rate", 1.0), ("time, rate", 1.0), ("Time,QPS", 1.0), ("time;rps", 1.0),
        ("time\trequests_per_second", 1.0),
        ("time,requests", 1 / 60), ("ts,count", 1 / 60), ("time,rpm", 1 / 60), ("date,views", 1 / 60),
    ],
)  # fmt: skip
def test_rates_and_counts_are_rates_to_load_tests_and_plans_alike(tmp_path: Path, head: str, factor: float) -> None:
    separator = next(one for one in ";\t," if one in head)
    rows = "".join(f"{60 * number}{separator}{rate}\n" for number, rate in enumerate((5, 50, 5, 100)))
    path = write(tmp_path, f"{head}\n{rows}")
    found = read_recorded(path)
    assert found.rates is not None
    assert found.rates.tolist() == pytest.approx([factor * rate for rate in (5, 50, 5, 100)])
    trace = read_trace(path)
    assert trace.rates is not None
    assert trace.rates.max() / trace.rates.min() == pytest.approx(20)


def test_other_columns_beside_the_times_of_requests_are_passed_over(tmp_path: Path) -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n2023-11-16 18:15:50.95,396,109\n"
    assert read_recorded(write(tmp_path, text)).rates is None


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, encoding: str) -> None:
    assert read_recorded(write(tmp_path, "time,rate\n0,4\n30,8\n", encoding)).times_s.tolist() == [0, 30]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,load\n0,5\n60,50\n120,5\n180,100\n240,5\n", ":1: its times go in equal steps"),
        ("time,rate\n2016010100,5\n2016013224,6\n", ":3: time is 2016013224, which is no date"),
        ("time,rate\n20230229,5\n20230301,6\n", ":2: time is 20230229, which is no date"),
        ("time,rate\n201601,5\n201602,6\n", "looks like a month"),
        ("time,rate\n17000000000,5\n17000000060,6\n", "neither seconds"),
        ("time,rate\n1700000000,5\n1700000060000,6\n", ":3: time is 1700000060000"),
        ("time,rate\n0,5\ninf,6\n", ":3: time is neither"),
        ("time,rate\n0,5\n1e999,6\n", ":3: time is 1e999"),
        ("time,rate\n-5,5\n60,6\n", ":2: time is -5"),
        ("time,rate\n0,nan\n60,6\n", ":2: rate is nan"),
        ("time,rate\n0,1e400\n60,6\n", ":2: rate is 1e400"),
        ("time,rate\n0,\n60,6\n", ":2: rate is empty"),
        ("time,rate\n0,5\n0,6\n60,6\n", ":3: two lines have the same time"),
        ("time,rate\n0,5\n", "at least two different times"),
        ("time,rate\n0,5\n\0,6\n", ":3: holds a NUL"),
        ('time,rate\n0,"5\n60,6\n', "not a CSV file"),
        ("time,rate\n60,5\n\n\n0,5\n", ":5: time goes back"),
    ],
)
def test_what_cannot_be_told_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TraceError) as raised:
        read_recorded(write(tmp_path, text))
    assert said in str(raised.value)
    assert "trace.csv" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("bytes_", [b"time,rate\n0,5\n\xff,6\n", b"\xff\xfet\0"])
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, bytes_: bytes) -> None:
    (tmp_path / "trace.csv").write_bytes(bytes_)
    with pytest.raises(TraceError):
        read_recorded(tmp_path / "trace.csv")


@pytest.mark.parametrize("path", ["/dev/zero", "/", "none.csv", "a\0b", "x" * 5000])
def test_what_is_no_file_is_refused_at_once(path: str) -> None:
    with pytest.raises(TraceError):
        read_recorded(Path(path))


@pytest.mark.parametrize(("text", "times"), [
    ('{"timestamp": 27482, "input_length": 6955, "output_length": 5}\n{"timestamp": 30535, "input_length": 1}', 3.053),
    ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.5,374,44\n2023-11-16 18:15:50.75,396,109\n", 4.25),
    ("TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00+00:00,21,5\n2024-05-10 00:00:01+00:00,2,6\n", 1.0),
    ("Timestamp,Model,Request tokens,Response tokens\n5,ChatGPT,472,18\n45,ChatGPT,1087,230\n", 40.0),
])  # fmt: skip
def test_traces_of_language_models_are_times_of_requests(tmp_path: Path, text: str, times: float) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    found = read_recorded(path)
    assert found.rates is None
    assert found.times_s == pytest.approx([0.0, times])
    path.write_text('{"timestamp": 1}\n{"at": 2}\n')
    with pytest.raises(TraceError, match=":2: needs JSON with a timestamp, in milliseconds"):
        read_recorded(path)
