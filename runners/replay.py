"""Recorded measurements instead of servers: a table with a row per configuration, through the same seam."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import contains
from pathlib import Path

from runners.protocol import (
    Container,
    Endpoint,
    InClusterLoad,
    Infeasible,
    Leftover,
    ParameterValue,
    Placement,
    Recorded,
    Resources,
    ServerFailed,
    Usage,
)
from search_spaces.reading import InputError, quoted, read_text, shown

_SEPARATORS = {"\t": "tabs", ";": "semicolons"}
_STATES = ("ok", "oom", "failed")
_MAX_NUMBER = 1e15  # what is stored of a trial is held to that too
_NUMBERS = ("capacity_qps", "saturated_qps", "p99_ms", "price_per_hour", "trial_s")
_NUMBER_ADVICE = "; write it as in 1400 or 0.5, and leave the cell empty where there is none"
# Further than these no cost per million requests can be told.
_MIN_CAPACITY_QPS, _MAX_PRICE = 1e-5, 1e7
_KNOWN = {*_NUMBERS, "status", "capacity_low_qps", "capacity_high_qps"}  # of a table that `tune share` wrote
NOT_IN_TABLE = "this configuration is not in the table"
_CAPACITY = re.compile(  # a heading of letters alone: max_rps, Requests/s, throughput
    r"(max)?(capacity|throughput|rate)?(qps|rps|req(uest)?s?(per)?s(ec(ond)?)?)|(max)?(capacity|throughput)"
)
_FIGURE = re.compile(r"p\d|latency|cost|price|error|fail|qps|rps|throughput", re.IGNORECASE)


class TableError(Exception):
    """A table that cannot be replayed; the message names file, line and column. `line` counts from 1."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class _Row:
    line: int = field(compare=False)
    status: str
    capacity_qps: float
    saturated_qps: float | None
    p99_ms: float | None
    price_per_hour: float | None
    trial_s: float | None

    @property
    def serves(self) -> bool:
        return self.status == "ok" and self.capacity_qps > 0


@dataclass(frozen=True)
class _Content:
    """The rows, the values of each parameter as compared and as written, and columns of figures that are not read."""

    rows: dict[tuple[str, ...], _Row]
    values: tuple[dict[str, str], ...]
    unread: tuple[str, ...]


@dataclass(frozen=True)
class _Replayed:
    """The endpoint of a row: nothing listens there."""

    recorded: Recorded | None
    url: str = "replay:"
    cold_start_s: float = 0.0
    image: str | None = None
    reused_from: int | None = None
    client_cores: tuple[int, ...] = ()
    shares_cores: bool = False
    beside: InClusterLoad | None = None
    notes: tuple[str, ...] = ()

    def check(self) -> None:
        """Never raises: there is no server that could die."""

    def usage(self, start: float, end: float) -> Usage:  # noqa: ARG002
        """Empty: a table has no use of resources."""
        return Usage()


class ReplayRunner:
    """`parameters` are the columns that identify a row; in those of `texts`, 1.1 and 1.10 are two values. Raises
    TableError for a table that is not what it should be.
    """

    def __init__(self, table: Path, parameters: Sequence[str], texts: Collection[str] = ()) -> None:
        self._table, self._parameters, self._texts = table, tuple(parameters), frozenset(texts)
        content = _read(table, self._parameters, self._texts)
        self._rows, self._values, self.unread = content.rows, content.values, content.unread

    def has_prices(self) -> bool:
        """Whether every row that serves has a price of its own."""
        serving = [row.price_per_hour for row in self._rows.values() if row.serves]
        return bool(serving) and None not in serving

    @property
    def unpriced(self) -> int:
        """How many rows that serve have no price, where others have one."""
        prices = [row.price_per_hour for row in self._rows.values() if row.serves]
        return prices.count(None) if any(one is not None for one in prices) else 0

    @property
    def has_p99(self) -> bool:
        """Whether any row has one."""
        return self.max_p99_ms is not None

    @property
    def max_p99_ms(self) -> float | None:
        """The highest of any row; None where none has one."""
        return max((row.p99_ms for row in self._rows.values() if row.p99_ms is not None), default=None)

    def longest_trial_s(self, choices: Sequence[Sequence[ParameterValue]]) -> float:
        """The longest time that a row says its trial took, of those that serve and whose values are among the `choices`
        of each parameter; 0 where none says so. Others are never run for that long.
        """
        return max((row.trial_s or 0.0 for row in self._fitting(choices) if row.serves), default=0.0)

    def fits(self, choices: Sequence[Sequence[ParameterValue]]) -> bool:
        """Whether the values of any row are among the `choices` of each parameter."""
        return next(self._fitting(choices), None) is not None

    def _fitting(self, choices: Sequence[Sequence[ParameterValue]]) -> Iterator[_Row]:
        known = [
            _among(written, allowed, exact=name in self._texts)
            for name, written, allowed in zip(self._parameters, self._values, choices, strict=True)
        ]
        return (row for key, row in self._rows.items() if all(map(contains, known, key)))

    def others(self, parameter: str, choices: Sequence[ParameterValue]) -> tuple[list[str], bool]:
        """Values of rows, as they are written, that are not among the choices, and whether there is none besides."""
        written = self._values[self._parameters.index(parameter)]
        known = _among(written, choices, exact=parameter in self._texts)
        return [text for value, text in written.items() if value not in known], not known

    def compared(
        self, parameter: str, choices: Sequence[ParameterValue]
    ) -> tuple[list[ParameterValue], list[ParameterValue]]:
        """The choices that no row has, and values of rows, as they are written, that are not among the choices."""
        written = self._values[self._parameters.index(parameter)]
        known = {_compared(choice, exact=parameter in self._texts): choice for choice in choices}
        absent = [choice for text, choice in known.items() if text not in written]
        return absent, [text for value, text in written.items() if value not in known]

    def has(self, parameters: Mapping[str, ParameterValue]) -> bool:
        """Whether a row is of this configuration."""
        return self._key(parameters) in self._rows

    def beyond(self, space: Iterable[Mapping[str, ParameterValue]]) -> list[int]:
        """The lines of the rows that are none of these configurations."""
        known = set(map(self._key, space))
        return [row.line for key, row in self._rows.items() if key not in known]

    @property
    def size(self) -> int:
        """How many configurations have a row."""
        return len(self._rows)

    def _key(self, parameters: Mapping[str, ParameterValue]) -> tuple[str, ...]:
        return _key(parameters, self._parameters, self._texts)

    def slower_than(self, limit_ms: float) -> int:
        """How many rows that serve say a p99 above that."""
        return sum(row.p99_ms is not None and row.p99_ms > limit_ms for row in self._rows.values() if row.capacity_qps)

    def price_per_hour(self, parameters: Mapping[str, ParameterValue]) -> float | None:
        """A recorded price is known before the trial, as a price always is."""
        row = self._rows.get(self._key(parameters))
        return None if row is None else row.price_per_hour

    @property
    def near(self) -> bool:
        """Nothing is loaded."""
        return True

    def close(self) -> None:
        """The table was read at the start."""

    def remove_leftovers(self) -> list[Leftover]:
        """A table starts nothing."""
        return []

    def refuses(self, resources: Resources) -> str | None:  # noqa: ARG002
        """A table refuses nothing: what it lacks is found out by asking."""
        return None

    def place(self, folder: Path) -> Placement:
        """Nothing will listen."""
        return Placement("127.0.0.1", 0, str(folder / "files"))

    @contextlib.contextmanager
    def launch(self, container: Container) -> Iterator[Endpoint]:
        """Yields the row's measurement; a row that failed, ran out of memory or is absent raises."""
        row = self._rows.get(self._key(container.parameters))
        if row is None:
            raise Infeasible(f"{NOT_IN_TABLE} {self._table.name}")
        if row.status == "failed":
            raise ServerFailed("the table records a failure")
        if row.status == "oom":
            raise Infeasible("out of memory, as the table records")
        if row.capacity_qps <= 0:
            raise Infeasible("cannot serve within the SLO, as the table records", row.p99_ms)
        # A real trial, pruned or not, begins with a burst, which shows at least the throughput that the SLO allows.
        saturated_qps = row.saturated_qps or row.capacity_qps
        yield _Replayed(Recorded(row.capacity_qps, saturated_qps, row.p99_ms, row.price_per_hour, row.trial_s))


def _read(table: Path, parameters: tuple[str, ...], texts: frozenset[str]) -> _Content:
    try:
        with io.StringIO(read_text(table), newline="") as file:
            reader = csv.DictReader((_without_comment(line) for line in file), strict=True)
            while reader.fieldnames == []:  # empty lines before the heading
                reader.fieldnames = None
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            _check_columns(f"{table}:{max(reader.line_num, 1)}", columns, parameters, max(reader.line_num, 1))
            return _content(table, reader, parameters, texts)
    except InputError as error:
        raise TableError(f"cannot read {error}") from error
    except csv.Error as error:
        raise TableError(f"cannot read {shown(table)}:{reader.line_num + 1}: {error}", reader.line_num + 1) from error


def _without_comment(line: str) -> str:
    """An empty line in place of a comment, so that the lines are still counted."""
    return "\n" if line.lstrip().startswith("#") else line


def _check_columns(place: str, columns: Sequence[str], parameters: tuple[str, ...], line: int) -> None:
    for name in columns:
        if name and columns.count(name) > 1:
            raise TableError(f"{place} has the column {name} more than once", line)
    for name in (*parameters, "capacity_qps"):
        if name not in columns:
            there = ", ".join(columns) or "none"
            other = "" if len(columns) > 1 else next((one for one in _SEPARATORS if one in there), "")
            near = next((one for one in columns if _is_meant(one, name)), None)
            advice = f"; separate the columns by commas, not by {_SEPARATORS[other]}" if other else ""
            advice = f"; is it {near}? rename that" if near else advice
            raise TableError(f"{place} has no column {name}; there are {quoted(there, 200)[1:-1]}{advice}", line)


def _is_meant(column: str, name: str) -> bool:
    """Whether a heading is that column in another spelling, or the capacity by another name."""
    return _bare(column) == _bare(name) or (name == "capacity_qps" and bool(_CAPACITY.fullmatch(_bare(column))))


def _bare(name: str) -> str:
    """A heading in one spelling, for `p99 (ms)` and `P99_ms`, or `Capacity QPS` and `capacity_qps`."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _content(table: Path, reader: csv.DictReader[str], parameters: tuple[str, ...], texts: frozenset[str]) -> _Content:
    rows: dict[tuple[str, ...], _Row] = {}
    values: tuple[dict[str, str], ...] = tuple({} for _ in parameters)
    for cells in reader:
        place = f"{table}:{reader.line_num}"
        beyond = cells.pop(None, [])  # where csv puts what is beyond the heading
        if not any(one and one.strip() for one in (*cells.values(), *beyond)):
            continue
        if any(beyond) or any(cell is None and name for name, cell in cells.items()):
            there = sum(cell is not None for cell in (*cells.values(), *beyond))
            raise TableError(
                f"{place} does not have as many cells as the first line, but {there}; "
                "write numbers without commas in them, and text with commas in quotes",
                reader.line_num,
            )
        key, row = _key(cells, parameters, texts), _row(cells, place, reader.line_num)
        for written, cell, name in zip(values, key, parameters, strict=True):
            written.setdefault(cell, cells[name].strip())
        if (first := rows.setdefault(key, row)) != row:
            raise TableError(
                f"{place} gives the configuration of line {first.line} a second time, with other values; "
                "keep one row of each configuration, such as the median of its measurements",
                reader.line_num,
            )
    if not rows:
        raise TableError(f"{table} has no rows")
    unread = (name for name in reader.fieldnames or () if _FIGURE.search(name) and name not in {*_KNOWN, *parameters})
    return _Content(rows, values, tuple(unread))


def _row(cells: Mapping[str, str], place: str, line: int) -> _Row:
    numbers = {name: _number(cells.get(name), f"{place} {name}", line) for name in _NUMBERS}
    status = (cells.get("status") or "").strip().lower() or "ok"
    if status not in _STATES:
        raise TableError(f"{place} status: {status!r} is none of {', '.join(_STATES)}", line)
    capacity_qps, price = numbers["capacity_qps"] or 0.0, numbers["price_per_hour"] or 0.0
    if 0 < capacity_qps < _MIN_CAPACITY_QPS or price > _MAX_PRICE:
        name, value = ("price_per_hour", price) if price > _MAX_PRICE else ("capacity_qps", capacity_qps)
        raise TableError(f"{place} {name} is {value:g}, which nothing has", line)
    figures = (capacity_qps, numbers["saturated_qps"], numbers["p99_ms"], price or None, numbers["trial_s"])
    return _Row(line, status, *figures)


def _number(text: str | None, place: str, line: int) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        number = math.nan if "_" in text else float(text)  # Python alone reads 1_000
    except ValueError as error:
        raise TableError(f"{place}: {text!r} is not a number{_NUMBER_ADVICE}", line) from error
    if math.isnan(number):
        raise TableError(f"{place}: {text!r} is not a number of at least 0{_NUMBER_ADVICE}", line)
    if not math.isfinite(number) or number < 0:
        raise TableError(f"{place}: {text!r} is not a number of at least 0", line)
    if number > _MAX_NUMBER:
        raise TableError(f"{place} is {number:g}, which nothing has", line)
    return number


def _among(cells: Iterable[str], choices: Sequence[ParameterValue], *, exact: bool) -> set[str]:
    """The cells, as compared, that are among the choices."""
    if not isinstance(choices, range):
        return {_compared(one, exact=exact) for one in choices}.intersection(cells)
    found = set()
    for cell in cells:
        with contextlib.suppress(ValueError):
            number = float(cell)
            found |= {cell} if number.is_integer() and int(number) in choices else set()
    return found


def same_numbers(choices: Sequence[ParameterValue]) -> bool:
    """Whether two of them are one number, as the versions 1.1 and 1.10 are; they can only be compared as text."""
    return not isinstance(choices, range) and len(set(map(_normal, choices))) < len(choices)


def _key(values: Mapping[str, ParameterValue], parameters: tuple[str, ...], texts: frozenset[str]) -> tuple[str, ...]:
    """1, 1.0 and "1" are the same cell of a table, and so are True and "true", except in a column of `texts`."""
    return tuple(_compared(values[name], exact=name in texts) for name in parameters)


def _compared(value: ParameterValue, *, exact: bool) -> str:
    return str(value).strip() if exact else _normal(value)


@lru_cache(maxsize=4096, typed=True)  # most values stand in many rows; 1 and True are told apart
def _normal(value: ParameterValue) -> str:
    text = str(value).strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    with contextlib.suppress(ValueError):
        number = float(text)
        if math.isfinite(number):
            return repr(number)
    return text
