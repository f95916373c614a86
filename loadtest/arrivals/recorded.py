"""Recorded traffic as people keep it: a CSV file of the times of requests, of rates over time, or of counts.

There is one reader, for the arrivals of a load test and for capacity plans, so that a file means the same to both.
Times are seconds, ISO dates (UTC where they name no zone), dates written as numbers (`20240512`, `2024051213`), or
epoch times in seconds, milliseconds, microseconds or nanoseconds, which their number of digits tells.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search_spaces.reading import InputError, quoted, read_text, shown

Floats = NDArray[np.float64]

_MAX_BYTES = 256 << 20
_MAX_NUMBER = 1e14  # a day of a billion requests/s
_TIMES = ("time", "timestamp", "ts", "datetime", "date", "seconds", "at_s", "t")
_PER_SECOND = ("rate", "qps", "rps", "rate_qps", "requests_per_second", "requests/s", "req/s", "throughput")
_PER_MINUTE = ("rpm", "requests_per_minute", "requests/min")
_COUNTS = ("requests", "count", "counts", "num_requests", "request_count", "invocations", "hits", "views")
_DATES = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_EPOCHS = {10: 1, 13: 10**3, 16: 10**6, 19: 10**9}  # digits -> how many to a second
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_YEARS = (1900, 2100)
_EVEN = 1e-6
_FEW, _LONG_S = 2, 10.0  # steps that are enough, and how long one is of which others may be left out
_PAIR = 2  # columns: a time and a value, as monitoring writes them
_LIKE_A_RATE = re.compile(
    r"\b(rates?|[qrt]ps|rpm|requests|hits|views|calls|invocations|traffic|volume|load|per|s|sec|min)\b"
)


class TraceError(Exception):
    """The file is no recorded traffic; the message names file and line."""


@dataclass(frozen=True)
class RecordedTraffic:
    """`times_s` count from the first one. With `rates` (requests/s) each holds for its time in `steps_s`, else each
    time is a request. `begins` is known where the file has dates.
    """

    name: str
    times_s: Floats
    rates: Floats | None = None
    begins: datetime | None = None

    @property
    def steps_s(self) -> Floats:
        """How long each rate holds; the last one as long as the others usually do."""
        gaps = np.diff(self.times_s)
        return np.append(gaps, np.median(gaps))


def read_recorded(path: Path) -> RecordedTraffic:
    """Reads a column `time` (ascending), and `rate` (requests/s from then on) or `requests` (how many until the next
    line); with times alone, each line is a request. Raises TraceError.
    """
    try:
        text = read_text(path, _MAX_BYTES)
    except InputError as error:
        raise TraceError(f"{error}; name a CSV file with the columns time and rate") from error
    head, rows, lines = _of_mooncake(path, text) if text.lstrip().startswith("{") else _table(path, text)
    place = _Place(path, lines)
    column = next((head.index(name) for name in _TIMES if name in head), None)
    if column is None:
        raise TraceError(f"{shown(path)}:1: no column for the time; name one `time` (seconds or dates), and one `rate`")
    if not rows:
        raise TraceError(f"{shown(path)}: nothing but a heading; each line is a time and the rate from then on")
    times, begins = _times([row[column].strip() for row in rows], place)
    falling = np.flatnonzero(np.diff(times) < 0)
    if len(falling):
        raise TraceError(f"{place(int(falling[0]) + 1)}: {head[column]} goes back in time; sort the lines")
    if len(times) < 2 or times[-1] <= times[0]:
        raise TraceError(f"{shown(path)}: it needs at least two different times; `qps` plans for a steady rate")
    found = RecordedTraffic(path.name, times - times[0], begins=begins)
    factor = _rates(head, rows, place, found)
    return found if factor is None else RecordedTraffic(found.name, found.times_s, factor, begins)


@dataclass(frozen=True)
class _Place:
    """The file and line of a row."""

    path: Path
    lines: Sequence[int]

    def __call__(self, row: int) -> str:
        return f"{shown(self.path)}:{self.lines[row]}"


def _table(path: Path, text: str) -> tuple[list[str], list[list[str]], list[int]]:
    """The heading in lower case, the rows that hold anything but a comment, and the line that each row begins at."""
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    separator = next((one for one in (",", ";", "\t") if one in first), ",")
    reader = csv.reader(text.splitlines(keepends=True), delimiter=separator, skipinitialspace=True, strict=True)
    rows, lines, begin = [], [], 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row) and not row[0].lstrip().startswith("#"):
                rows.append(row)
                lines.append(begin)
            begin = reader.line_num + 1
    except csv.Error as error:
        raise TraceError(f"{shown(path)}:{begin}: is not a CSV file with time and rate: {error}") from error
    if not rows:
        raise TraceError(f"{shown(path)}: is not a CSV file with time and rate: it is empty")
    head = [cell.strip().lower() for cell in rows[0]]
    for row, line in zip(rows[1:], lines[1:], strict=True):
        if len(row) < len(head):
            raise TraceError(f"{shown(path)}:{line}: has {len(row)} cells, and the heading has {len(head)}")
    return head, rows[1:], lines[1:]


def _of_mooncake(path: Path, text: str) -> tuple[list[str], list[list[str]], list[int]]:
    """A request in each line of JSON, with `timestamp` in milliseconds from the trace's beginning on."""
    rows, lines = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rows.append([str(float(json.loads(line)["timestamp"]) / 1e3)])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise TraceError(f"{shown(path)}:{number}: needs JSON with a timestamp, in milliseconds") from error
        lines.append(number)
    return ["time"], rows, lines


def _rates(head: list[str], rows: list[list[str]], place: _Place, found: RecordedTraffic) -> Floats | None:
    """Requests/s of each step; None where each line is a request."""
    for names, per_s in ((_PER_SECOND, 1.0), (_PER_MINUTE, 1 / 60), (_COUNTS, None)):
        name = next((one for one in names if one in head), None)
        if name is None:
            continue
        column = head.index(name)
        values = np.array([_number(row[column].strip(), name, place, number) for number, row in enumerate(rows)])
        same = np.flatnonzero(np.diff(found.times_s) <= 0)
        if len(same):
            raise TraceError(f"{place(int(same[0]) + 1)}: two lines have the same time")
        if not values.any():
            raise TraceError(f"{shown(place.path)}: no requests at all: every {name} is 0")
        return values / found.steps_s if per_s is None else values * per_s
    gaps = np.diff(found.times_s)
    # Requests do not come like a clock; rates and counts are written so. To guess would be wrong in silence.
    others = ", ".join(quoted(one) for one in head if one not in _TIMES)
    in_steps = TraceError(
        f"{shown(place.path)}:1: its times go in equal steps, as rates do, but none of {others} is a column of "
        "rates; name it `rate` (requests/s) or `requests`, or leave time alone in the file"
    )
    if others and len(gaps) >= _FEW and float(np.ptp(gaps)) <= _EVEN * float(gaps[0]):
        raise in_steps
    for name in head:
        if name not in _TIMES and _LIKE_A_RATE.search(name.replace("_", " ")):
            raise TraceError(
                f"{shown(place.path)}:1: {quoted(name)} is not known as a column of rates; name it `rate` "
                "(requests/s), `rpm` or `requests` (how many until the next line), or leave it out where each "
                "line is a request"
            )
    if others and len(gaps) >= (1 if len(head) == _PAIR else _FEW) and _in_long_steps(gaps):
        raise in_steps
    return None


def _in_long_steps(gaps: Floats) -> bool:
    """Whether times go in equal long steps of which some are left out: nothing was scraped then."""
    steps = gaps / max(_EVEN, float(gaps.min()))
    return float(gaps.min()) >= _LONG_S and bool(np.abs(steps - np.round(steps)).max() <= _EVEN)


def _number(text: str, name: str, place: _Place, row: int) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not (math.isfinite(value) and value >= 0):
        raise TraceError(f"{place(row)}: {name} is {quoted(text)[1:-1] or 'empty'}; it must be a number of 0 or more")
    if value > _MAX_NUMBER:
        raise TraceError(f"{place(row)}: {name} is {quoted(text)[1:-1]}, more than any traffic; is its unit right?")
    return value


def _times(texts: list[str], place: _Place) -> tuple[Floats, datetime | None]:
    """Seconds, and the moment of the first one where it is known."""
    numbers = [_NUMBER.fullmatch(text) is not None for text in texts]
    if all(numbers):
        return _numeric(texts, place)
    moments = []
    for row, text in enumerate(texts):
        if numbers[row] and numbers[0]:
            continue  # the one that is none is to blame
        try:
            moment = datetime.fromisoformat(text.removesuffix("UTC").strip())
        except ValueError:
            raise TraceError(
                f"{place(row)}: time is neither seconds nor a date such as 2026-03-01T12:00:00Z: {quoted(text)}"
            ) from None
        moments.append(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)
    begin = moments[0]
    return np.array([(moment - begin).total_seconds() for moment in moments]), begin.astimezone(UTC)


def _numeric(texts: list[str], place: _Place) -> tuple[Floats, datetime | None]:
    digits = {len(text.partition(".")[0].lstrip("+-")) if "e" not in text.lower() else 0 for text in texts}
    values = [float(text) for text in texts]
    wrong = next((row for row, value in enumerate(values) if not (math.isfinite(value) and value >= 0)), None)
    if wrong is not None:
        raise TraceError(f"{place(wrong)}: time is {quoted(texts[wrong])[1:-1]}; it must be a number of 0 or more")
    if len(digits) == 1 and (length := digits.pop()) in _DATES | _EPOCHS:
        if (as_dates := _as_dates(texts, length, place)) is not None:
            return as_dates
        if length in _EPOCHS:
            return _as_epoch(texts, _EPOCHS[length])
    last = values.index(max(values))
    if values[last] >= 1e10:
        raise TraceError(
            f"{place(last)}: time is {quoted(texts[last])[1:-1]}, which is neither seconds, "
            "nor an epoch time of 10, 13, 16 or 19 digits, nor a date; write seconds or ISO dates"
        )
    if all(
        value.is_integer() and _YEARS[0] <= value // 100 <= _YEARS[1] and 1 <= value % 100 <= 12 for value in values
    ):
        raise TraceError(f"{place(0)}: time looks like a month, {texts[0]}; write ISO dates, such as 2024-05-01")
    return np.array(values), None


def _as_dates(texts: list[str], length: int, place: _Place) -> tuple[Floats, datetime | None] | None:
    """Dates written as numbers; None where they are in no year that traffic is from."""
    if length not in _DATES or not all(_YEARS[0] <= int(text[:4]) <= _YEARS[1] for text in texts if text[:4].isdigit()):
        return None
    parse: Callable[[str], datetime] = lambda text: datetime.strptime(text, _DATES[length]).replace(tzinfo=UTC)  # noqa: E731
    moments = []
    for row, text in enumerate(texts):
        whole, _, rest = text.partition(".")
        try:
            if rest.strip("0"):
                raise ValueError
            moments.append(parse(whole))
        except ValueError:
            raise TraceError(
                f"{place(row)}: time is {quoted(text)[1:-1]}, which is no date, although it looks like one; write ISO "
                "dates, such as 2024-05-12T13:00"
            ) from None
    begin = moments[0]
    return np.array([(moment - begin).total_seconds() for moment in moments]), begin


def _as_epoch(texts: list[str], scale: int) -> tuple[Floats, datetime]:
    begin = int(texts[0].partition(".")[0])
    # Whole numbers first: nanoseconds have more digits than a float.
    seconds = [(int(whole) - begin + float(f"0.{rest or 0}")) / scale for whole, _, rest in
               (text.partition(".") for text in texts)]  # fmt: skip
    return np.array(seconds), datetime.fromtimestamp(begin / scale, UTC)
