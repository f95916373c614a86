"""What of a stored study cannot be used: damaged parts, parts of another version, records that the spec contradicts.

Each is named by its trial and its field. Who shows a study shows the rest; who decides by it, or goes on with it, does
not: a decision from the rest would be another one.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from results import Explanation, TrialRecord
from results.stored import StoredError, stored
from results.text import visible
from search_spaces.reading import quoted
from tuner.errors import UnfitEnvironmentError
from tuner.spec.reading import LoadedSpec
from tuner.study.budget import Limits
from tuner.study.outlook import Outlook
from tuner.study.plan import StudyPlan
from tuner.study.storage.keys import BUDGET, CONFIRMATION, ENDED, EXPLANATION, OUTLOOK, PLAN, PROVENANCE, SPEC, STOPPED


def damaged(name: str, what: str) -> UnfitEnvironmentError:
    """What to tell a user whose study cannot be used as it is."""
    return UnfitEnvironmentError(
        f"the study {visible(name)} is damaged, or of another version: {what}\n"
        "`tune report` shows what can be read of it; a new run measures anew."
    )


def known_plan(attributes: Mapping[str, Any]) -> StudyPlan | None:
    """The plan that a study's attributes hold; None where there is none. Raises StoredError that names the field."""
    plan = attributes.get(PLAN)
    if plan is None and SPEC in attributes:  # a study from before there were plans
        provenance = attributes.get(PROVENANCE) or {}
        seed = provenance.get("seed", 0) if isinstance(provenance, dict) else 0
        plan = {
            "spec": attributes[SPEC], "provenance": provenance, "budget": attributes.get(BUDGET), "warm_start": [],
            "seed": int(seed) if str(seed).isdecimal() else seed,
        }  # fmt: skip
    if plan is None:
        return None
    expected: dict[str, Callable[[Any], bool]] = {
        "spec": lambda value: isinstance(value, dict),
        "seed": lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
        "budget": lambda value: value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0),
        "warm_start": lambda value: isinstance(value, list),
        "provenance": lambda value: isinstance(value, dict) and all(isinstance(one, str) for one in value.values()),
        "limits": _are_limits,
    }
    plan = {"limits": {}, **plan} if isinstance(plan, dict) else plan  # plans from before there were limits
    for key, good in expected.items():
        if not isinstance(plan, dict) or key not in plan:
            raise StoredError(f"{PLAN}: it has no {key}")
        if not good(plan[key]):
            raise StoredError(f"{PLAN}: its {key} is not what it should be: {quoted(plan[key])}")
    warm_start = tuple(stored(TrialRecord, one) for one in plan["warm_start"])
    limits = Limits(**{one.name: plan["limits"].get(one.name) for one in fields(Limits)})
    return StudyPlan(plan["spec"], plan["seed"], plan["budget"], warm_start, plan["provenance"], limits)


def _are_limits(value: Any) -> bool:
    names = {one.name for one in fields(Limits)}
    return isinstance(value, dict) and all(
        one is None or (isinstance(one, int | float) and not isinstance(one, bool) and one > 0)
        for key, one in value.items()
        if key in names
    )


def known_explanation(attributes: Mapping[str, Any], problems: list[str]) -> Explanation | None:
    """What was explained; None where there is nothing, or nothing that can be read."""
    value = attributes.get(EXPLANATION)
    if value is None:
        return None
    try:
        return stored(Explanation, value)
    except StoredError as error:
        problems.append(f"{EXPLANATION}: {error}")
        return None


def known_end(attributes: Mapping[str, Any], problems: list[str]) -> str | None:
    """Why the search stopped by itself."""
    value = attributes.get(STOPPED)
    if value is None or isinstance(value, str):
        return value
    problems.append(f"{STOPPED} is not what it should be: {quoted(value)}")
    return None


def known_ended(attributes: Mapping[str, Any], last: object, optuna: str) -> str | None:
    """When the last launch was over, an ISO time in UTC. A study of an earlier version does not say it; then it is the
    `last` trial's end, as Optuna keeps it, without a zone: from version 5 on in UTC, before that in the machine's own
    zone, which nobody knows here. `optuna` is the version that the study was begun with.
    """
    major = optuna.partition(".")[0]
    in_utc = major.isdecimal() and int(major) >= 5
    for moment in (attributes.get(ENDED), last):
        with contextlib.suppress(ValueError, OverflowError):
            at = datetime.datetime.fromisoformat(str(moment))
            if at.tzinfo is None and not in_utc:
                return at.isoformat(timespec="seconds")
            at = at if at.tzinfo else at.replace(tzinfo=datetime.UTC)
            return at.astimezone(datetime.UTC).isoformat(timespec="seconds")
    return None


def known_confirmations(attributes: Mapping[str, Any], problems: list[str]) -> dict[int, tuple[TrialRecord, ...]]:
    """The further launches among a study's attributes, in their order, by the number of their trial."""
    found: dict[int, dict[int, TrialRecord]] = {}
    for key, value in attributes.items():
        if not key.startswith(CONFIRMATION):
            continue
        number, _, place = key.removeprefix(CONFIRMATION).partition(":")
        try:
            if not number.isdecimal() or not (place or "1").isdecimal():
                raise StoredError("it is of no trial")
            found.setdefault(int(number), {})[int(place or 1)] = stored(TrialRecord, value)
        except StoredError as error:
            problems.append(f"{visible(key)[:60]}: {error}")
    return {number: tuple(launches[place] for place in sorted(launches)) for number, launches in found.items()}


def known_outlook(attributes: Mapping[str, Any], problems: list[str]) -> Outlook:
    """What the search expected when it ended; nothing where there is nothing, or nothing that can be read."""
    value = attributes.get(OUTLOOK)
    try:
        return Outlook() if value is None else Outlook.read(value)
    except (AttributeError, KeyError, TypeError, ValueError):
        problems.append(f"{OUTLOOK} is not what it should be: {quoted(value)}")
        return Outlook()


def misfits(
    loaded: LoadedSpec, records: Sequence[TrialRecord], confirmations: Mapping[int, Sequence[TrialRecord]]
) -> tuple[dict[int, str], dict[int, str]]:
    """Trials, and second measurements, whose configuration is none of the space: nothing can be computed from them."""

    def why(record: TrialRecord) -> str | None:
        names, ours = set(record.configuration), set(loaded.space.names)
        if names != ours:
            return f"its parameters are {quoted(sorted(names))}, and those of the spec {quoted(sorted(ours))}"
        return loaded.space.why_invalid(record.configuration)

    trials = {
        one.number: f"trial {one.number}: configuration: {visible(said)}" for one in records if (said := why(one))
    }
    of_confirmations = {
        key: f"trial {key}, measured again: configuration: {visible(said)}"
        for key, launches in confirmations.items()
        for one in launches
        if (said := why(one))
    }
    numbers = {one.number for one in records}
    of_confirmations |= {
        key: f"trial {key}: it was measured again, and has no record itself"
        for key in confirmations
        if key not in numbers
    }
    return trials, of_confirmations
