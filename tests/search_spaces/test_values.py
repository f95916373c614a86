"""Quantities: units are understood, and a missing one is never guessed."""

from __future__ import annotations

import pytest

from search_spaces import QuantityError, parse_duration, parse_percentage, parse_size, quantity


@pytest.mark.parametrize(
    ("text", "size"), [("512Mi", 512 * 2**20), ("1.5Gi", 3 * 2**29), ("2G", 2 * 10**9), ("1 Ki", 1024)]
)
def test_a_size_is_its_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("50ms", 0.05), ("2m", 120), ("1.5s", 1.5), ("0", 0), ("250us", 0.00025)]
)
def test_a_duration_is_its_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


def test_a_percentage_is_its_share() -> None:
    assert parse_percentage("0.1%") == pytest.approx(0.001)


@pytest.mark.parametrize("value", [512, "512", "2GB", "Mi", "-1Gi", True, None, "1e400Mi", "", "1..2Gi"])
def test_a_size_without_a_known_unit_is_refused(value: object) -> None:
    with pytest.raises(QuantityError):
        parse_size(value)


@pytest.mark.parametrize("value", [50, "50", "50 msec", "1h30m", "-5s", [], "ms"])
def test_a_duration_without_a_known_unit_is_refused(value: object) -> None:
    with pytest.raises(QuantityError):
        parse_duration(value)


@pytest.mark.parametrize("value", [0.1, "0.1", "101%", "5 percent"])
def test_a_percentage_without_its_sign_is_refused(value: object) -> None:
    with pytest.raises(QuantityError):
        parse_percentage(value)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (4, 4.0),
        (True, 1.0),
        ("512Mi", 2.0**29),
        ("5ms", 0.005),
        ("25%", 0.25),
        ("8", 8.0),
        ("T4", "T4"),
        ("nan", "nan"),
    ],
)
def test_a_value_stands_for_a_number_where_it_can(value: int | str, number: float | str) -> None:
    assert quantity(value) == number
