"""The space: which configurations are valid, how many, and what contradicts itself."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Constraint, Parameter, SearchSpace, SpaceError


def space(*constraints: str) -> SearchSpace:
    parameters = (
        Parameter("cpu_cores", (1, 2, 4), "cpu_cores"),
        Parameter("threads", range(1, 9), "threads"),
        Parameter("memory", ("512Mi", "1Gi", "2Gi"), "memory"),
        Parameter("engine", ("eager", "compiled")),
    )
    return SearchSpace(parameters, tuple(Constraint.parse(text) for text in constraints))


def test_without_constraints_the_size_is_the_product() -> None:
    assert space().size.count == 3 * 8 * 3 * 2
    assert space().size.exact


def test_constraints_remove_configurations_from_the_count_and_from_the_walk() -> None:
    constrained = space("threads <= 2 * cpu_cores", 'memory >= "1Gi" or cpu_cores == 1')
    everything = list(constrained)
    assert constrained.size.count == len(everything)
    assert all(found["threads"] <= 2 * found["cpu_cores"] for found in everything)  # type: ignore[operator]
    assert not any(found["memory"] == "512Mi" and found["cpu_cores"] != 1 for found in everything)


def test_the_walk_is_lazy_even_where_the_space_is_astronomic() -> None:
    huge = SearchSpace(tuple(Parameter(f"p{index}", range(1000)) for index in range(10)))
    assert huge.size.count == 1000**10
    assert len(list(itertools.islice(huge, 5))) == 5


def test_a_constraint_that_nothing_satisfies_leaves_an_empty_space() -> None:
    assert space("threads > 100").size.count == 0
    assert space("1 > 2").size.count == 0


def test_a_huge_constrained_space_is_counted_up_to_a_limit_and_says_so() -> None:
    huge = SearchSpace((Parameter("a", range(5000)), Parameter("b", range(5000))), (Constraint.parse("a + b >= 0"),))
    assert not huge.size.exact
    assert str(huge.size).startswith("over ")


def test_sampling_gives_distinct_valid_configurations_and_depends_on_the_seed_alone() -> None:
    constrained = space("threads <= 2 * cpu_cores")
    first, again, other = constrained.sample(20, 1), constrained.sample(20, 1), constrained.sample(20, 2)
    assert first == again
    assert first != other
    assert len({tuple(found.values()) for found in first}) == 20
    assert all(constrained.why_invalid(found) is None for found in first)


def test_sampling_a_huge_space_keeps_to_its_constraints() -> None:
    huge = SearchSpace((Parameter("a", range(5000)), Parameter("b", range(5000))), (Constraint.parse("a < b"),))
    found = huge.sample(50, 0)
    assert len(found) == 50
    assert all(one["a"] < one["b"] for one in found)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("configuration", "problem"),
    [
        ({"cpu_cores": 1, "threads": 1, "memory": "1Gi"}, "it gives no engine"),
        ({"cpu_cores": 3, "threads": 1, "memory": "1Gi", "engine": "eager"}, "cpu_cores=3 is not among its choices"),
        (
            {"cpu_cores": "1", "threads": 1, "memory": "1Gi", "engine": "eager"},
            "cpu_cores=1 is not among its choices: 1, 2, 4; write 1 without quotes, as its choices are",
        ),
        ({"cpu_cores": 1, "threads": 8, "memory": "1Gi", "engine": "eager"}, "it breaks the constraint"),
        ({"cpu_cores": 1, "threads": 1, "memory": "1Gi", "engine": "eager", "x": 1}, "x is not a parameter"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_said(configuration: dict[str, int | str], problem: str) -> None:
    assert problem in str(space("threads <= 2 * cpu_cores").why_invalid(configuration))


def test_quotes_that_a_choice_has_or_has_not_are_told() -> None:
    versions, batches = SearchSpace((Parameter("version", ("1", "2")),)), SearchSpace((Parameter("n", range(1, 9)),))
    assert str(versions.why_invalid({"version": 1})).endswith("1, 2; write '1' in quotes, as its choices are")
    assert str(batches.why_invalid({"n": "8"})).endswith("write 8 without quotes, as its choices are")
    assert str(batches.why_invalid({"n": "9"})).endswith("is not among its choices: 1, 2, 3, 4, 5, 6, 7, 8")


def test_true_is_not_one() -> None:
    parameter = Parameter("compile", (True, False))
    assert SearchSpace.rank(parameter, 1) is None
    assert SearchSpace.rank(parameter, True) == 0


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Parameter("a b", (1,)), "use letters"),
        (lambda: Parameter("a", ()), "no choices"),
        (lambda: Parameter("a", (1, 2, 1)), "names 1 more than once"),
        (lambda: Parameter("memory", (512,), "memory"), "no unit"),
        (lambda: Parameter("memory", ("2GB",), "memory"), 'unknown unit "GB" in "2GB"; use Mi or Gi'),
        (lambda: Parameter("cores", (0,), "cpu_cores"), "not a number of cores above 0"),
        (lambda: Parameter("threads", (1.5,), "threads"), "not a whole number"),
        (lambda: SearchSpace(()), "no parameters"),
        (
            lambda: SearchSpace((Parameter("a", (1,), "cpu_cores"), Parameter("b", (1,), "cpu_cores"))),
            "both have the role",
        ),
        (
            lambda: SearchSpace((Parameter("a", (1,)),), (Constraint.parse("b > 1"),)),
            "names b, which is not a parameter",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(make: object, problem: str) -> None:
    with pytest.raises(SpaceError, match=problem):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**400, 1.5, True, "1"])
def test_what_is_no_choice_of_a_range_has_no_rank(value: float | str) -> None:
    assert SearchSpace.rank(Parameter("a", range(1, 4)), value) is None


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 12))
def test_the_count_equals_brute_force(first: int, second: int, limit: int) -> None:
    counted = SearchSpace(
        (Parameter("a", range(first)), Parameter("b", range(second)), Parameter("c", (1, 2))),
        (Constraint.parse(f"a + b <= {limit}"),),
    )
    expected = 2 * sum(a + b <= limit for a in range(first) for b in range(second))
    assert counted.size.count == expected == len(list(counted))


def test_a_space_of_which_chance_meets_nothing_still_has_a_sample() -> None:
    wide = [Parameter(name, range(40)) for name in "abcd"] + [Parameter(name, range(10)) for name in "ef"]
    space = SearchSpace(tuple(wide), (Constraint.parse("a == b"), Constraint.parse("c == d")))
    [one] = space.sample(1, seed=0)
    assert space.why_invalid(one) is None


@pytest.mark.parametrize(
    ("constraint", "least"),
    [("a == 7 and b == 9", 1000), ("a + b + c == 4 or a * b * c == 6", 10), ("a * b * c * d <= 60", 50)],
)
def test_what_one_configuration_in_a_hundred_thousand_satisfies_is_drawn_within_seconds(
    constraint: str, least: int
) -> None:
    parameters = tuple(Parameter(name, range(1, 317)) for name in "abcdef")
    space = SearchSpace(parameters, (Constraint.parse(constraint),))
    began = time.process_time()
    drawn = space.sample(10_000, seed=0)
    assert time.process_time() - began < 15
    assert len(drawn) >= least
    assert len({tuple(one.values()) for one in drawn}) == len(drawn)
    assert all(space.why_invalid(one) is None and tuple(one) == space.names for one in drawn)


def test_where_a_constraint_cannot_be_evaluated_nothing_is_drawn_and_it_is_said() -> None:
    """The walk that counts begins with the lowest values, and a space this large is not walked to its end."""
    names = "abcdef"
    parameters = tuple(Parameter(name, range(1, 101)) for name in names)
    space = SearchSpace(parameters, (Constraint.parse("(a + b + c + d + e + f) / (a - 100) < 0"),))
    assert not space.size.exact
    drawn = space.sample(2000, seed=0)
    assert len(drawn) == 2000
    assert all(one["a"] != 100 for one in drawn)
    assert "cannot be evaluated for a=100" in (space.why_invalid(dict.fromkeys(names, 100)) or "")
