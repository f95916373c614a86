"""What a person should know besides the recommendation: in plain words, with the evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from results.machine import machine_speeds, memory_speeds
from results.records import TrialRecord
from results.summary import StudySummary
from results.text import assigned, estimated, given, money, share, size, without_figures
from results.trial_parts import Estimate, ParameterValue
from search_spaces import mig_memory, quantity

_IDLE = 0.3  # of a GPU's time
_THROTTLED = 0.05  # of the scheduler's periods
_AGREES = 0.15  # relative difference of two measurements that is worth a word
_WIDER, _SAME_SHARE = 1.5, 0.1  # slices so far apart, of which a framework holds the same part
_MAX_TRIALS = 6
_HOUR_S = 3600
_TOO_SHORT = "too short to tell"  # how such a trial's reason begins; the load test says it, and what ends a launch
_SHARED = 0.02  # of the server's cores that the load generator used
_SPEED, _MEMORY_SPEED = 0.1, 0.5  # relative difference from the first trial's; caches make copies noisy


@dataclass(frozen=True)
class Finding:
    """`title` says what, `words` the evidence and what to do. `trials` are those it was seen in."""

    title: str
    words: str
    trials: tuple[int, ...]


def findings(study: StudySummary) -> tuple[Finding, ...]:
    """All findings, those of the recommended configuration first."""
    best = study.recommendation.trial
    found = [one for look in _LOOKS for one in look(study)]
    return tuple(sorted(found, key=lambda one: best not in one.trials))


def _idle_gpu(study: StudySummary) -> Iterator[Finding]:
    def idle(one: TrialRecord) -> bool:
        return (
            bool(study.question.gpu_parameters)
            and one.use.gpu_utilization is not None
            and one.use.gpu_utilization < _IDLE
        )

    if seen := _latest(study, idle):
        worst = min(seen, key=lambda one: one.use.gpu_utilization or 0.0)
        price = (
            "" if worst.cost_per_hour is None else f" for {money(worst.cost_per_hour, study.question.currency)} an hour"
        )
        yield Finding(
            "A GPU is paid for and mostly idle",
            f"Trial {worst.number} kept its GPU busy for {share(worst.use.gpu_utilization)} of the time at its highest "
            f"rate{price}. A smaller slice, a CPU, or larger batches may do.{_others(seen, worst)}",
            _numbers(seen),
        )


def _gpu_throttling(study: StudySummary) -> Iterator[Finding]:
    if seen := _latest(study, lambda one: bool(one.use.gpu_throttling)):
        why = ", ".join(sorted({reason for one in seen for reason in one.use.gpu_throttling}))
        yield Finding(
            "A GPU was slowed down",
            f"In trial {seen[0].number} its driver held the clocks back: {why}. On a GPU that is cooled better, or "
            f"given more power, the same configuration is faster.{_others(seen, seen[0])}",
            _numbers(seen),
        )


def _gpu_memory_taken(study: StudySummary) -> Iterator[Finding]:
    """What a framework holds follows the slice that it is given, so it says nothing of what it needs."""
    seen = [one for one in map(study.latest, study.records) if one.use.gpu_memory_peak_bytes]
    for name in study.question.gpu_parameters:
        # Half of one kind of GPU is not half of another: only the most frequent kind is looked at.
        kinds = [
            [one.configuration.get(other) for other in study.question.gpu_parameters if other != name] for one in seen
        ]
        kind = max(kinds, key=kinds.count, default=None)
        same = [one for one, own in zip(seen, kinds, strict=True) if own == kind]
        held = {size_: one for one in same if (size_ := _slice(one.configuration.get(name))) is not None}
        if len(held) < 2 or max(held) < _WIDER * min(held):
            continue
        shares = [(one.use.gpu_memory_peak_bytes or 0) / size_ for size_, one in held.items()]
        if max(shares) > (1 + _SAME_SHARE) * min(shares):
            continue
        smallest, largest = held[min(held)], held[max(held)]
        served = [one.configuration.get(name) for one in same if one.state in ("complete", "pruned")]
        slice_ = min((value for value in served if _slice(value)), key=lambda value: _slice(value) or 0.0, default=None)
        yield Finding(
            "GPU memory is taken as it is given",
            f"With {name}={given(smallest.configuration[name])} the server held "
            f"{size(smallest.use.gpu_memory_peak_bytes)}, with {given(largest.configuration[name])} it held "
            f"{size(largest.use.gpu_memory_peak_bytes)}, the same part of each: its framework takes what there is, "
            "which says nothing of what it needs."
            + ("" if slice_ is None else f" The smallest slice that served is {given(slice_)}, found by trial."),
            _numbers([smallest, largest]),
        )


def _slice(value: ParameterValue | None) -> float | None:
    """A slice's size or share as a number; for a MIG profile, its memory."""
    if value is None:
        return None
    found = mig_memory(value) or quantity(value)
    return found if isinstance(found, float | int) and not isinstance(found, bool) and found > 0 else None


def _throttling(study: StudySummary) -> Iterator[Finding]:
    if seen := _latest(study, lambda one: (one.use.throttled_share or 0.0) > _THROTTLED):
        worst = max(seen, key=lambda one: one.use.throttled_share or 0.0)
        yield Finding(
            "The CPU quota was used up",
            f"In trial {worst.number} the kernel held the server back in {share(worst.use.throttled_share)} of the "
            "scheduler's periods at its highest rate: each time some requests wait for the next period. Fewer threads "
            f"than cores, or more cores, would end that.{_others(seen, worst)}",
            _numbers(seen),
        )


def _memory_growth(study: StudySummary) -> Iterator[Finding]:
    if seen := _latest(study, lambda one: one.use.memory_growth_bytes_per_s is not None):
        worst = max(seen, key=lambda one: one.use.memory_growth_bytes_per_s or 0.0)
        hourly = round((worst.use.memory_growth_bytes_per_s or 0.0) * _HOUR_S)
        yield Finding(
            "Memory grew under load",
            f"In trial {worst.number} it still grew by at least {size(hourly)} an hour when the load ended, at "
            f"{size(worst.use.memory_peak_bytes)}: a leak, or a cache without a bound. Load it for longer before this "
            f"is deployed.{_others(seen, worst)}",
            _numbers(seen),
        )


def _unsettled(study: StudySummary) -> Iterator[Finding]:
    if seen := _latest(study, lambda one: len(one.unsettled) > 1):
        yield Finding(
            "A server never settled",
            "Its latency or throughput still changed when the warm-up was over, so what was measured may not last: "
            f"{_listed(seen)}. A longer load.max_warmup shows whether it settles at all.",
            _numbers(seen),
        )


def _disagreement(study: StudySummary) -> Iterator[Finding]:
    """Per configuration, what its launches showed where they are far apart, or one of them did not serve; that one had
    too little time tells nothing of the configuration.
    """
    firsts = {one.number: one for one in study.records}
    for number, confirmations in sorted(study.launches.confirmations.items()):
        first = firsts.get(number)
        if first is None or first.capacity_qps is None:
            continue
        held = [one.capacity_qps for one in (first, *confirmations) if one.capacity_qps is not None]
        lost = [one for one in confirmations if one.capacity_qps is None]
        failed = next((one for one in lost if not _too_short(one)), None)
        shown = [*map(estimated, held)]
        each = " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
        if failed is not None:
            yield Finding(
                "A second measurement failed",
                f"Trial {number} held {each} requests/s; on another launch: {failed.reason or failed.state}.",
                (number,),
            )
        elif lost:
            yield Finding(
                "A second measurement had too little time",
                f"Trial {number} held {each} requests/s; another launch was {lost[0].reason}. That says nothing "
                "against it.",
                (number,),
            )
        elif _apart(held):
            yield Finding(
                "Measurements disagree",
                f"On {len(held)} launches trial {number} held {each} requests/s. On a shared machine none is exact; "
                "the decision takes all of them together.",
                (number,),
            )


def _apart(held: Sequence[Estimate]) -> bool:
    """Whether two differ by much, and each by its interval, which is wide where other programs disturbed a launch."""
    least, most = min(held, key=lambda one: one.value), max(held, key=lambda one: one.value)
    return most.value / least.value - 1 > _AGREES and most.low > least.high


def _too_short(one: TrialRecord) -> bool:
    return one.state == "failed" and (one.reason or "").startswith(_TOO_SHORT)


def _client(study: StudySummary) -> Iterator[Finding]:
    if seen := _latest(study, lambda one: one.bottleneck == "client"):
        yield Finding(
            "The load generator was the limit",
            f"The server could carry more than was sent to it: {_listed(seen)}. Their capacity is a lower bound; "
            "load.workers, or a load generator with cores of its own, would show more.",
            _numbers(seen),
        )


def _same_failure(study: StudySummary) -> Iterator[Finding]:
    alike: dict[str, list[TrialRecord]] = {}
    for one in study.records:
        if one.state == "failed" and one.reason:
            alike.setdefault(without_figures(one.reason, one.configuration), []).append(one)
    for failed in sorted(alike.values(), key=len, reverse=True)[:2]:
        if len(failed) > 1:
            example = "" if len({one.reason for one in failed}) == 1 else ", for example"
            yield Finding(
                "Servers failed for one reason", f"{len(failed)} trials{example}: {failed[-1].reason}", _numbers(failed)
            )


def _neighbours(study: StudySummary) -> Iterator[Finding]:
    if seen := _latest(study, lambda one: one.machine is not None and bool(one.machine.disturbed)):
        worst = max(seen, key=lambda one: one.machine.others_cores + one.machine.stolen_cores if one.machine else 0.0)
        assert worst.machine is not None  # noqa: S101 (it is among those that were seen)
        yield Finding(
            "Neighbours disturbed the measurement",
            f"In trial {worst.number}, {worst.machine.disturbed} while this was measured, and it never became quiet "
            "for long enough. That is not the server's fault: it may hold more, its interval allows for that, and "
            f"no miss of those moments counts as sure. Measure again on a quiet machine.{_others(seen, worst)}",
            _numbers(seen),
        )


def _shared_cores(study: StudySummary) -> Iterator[Finding]:
    """Findings on configurations that use all cores, so that the load generator takes a part of the server's."""
    if seen := _latest(study, lambda one: _generator_share(one) > _SHARED):
        worst = max(seen, key=_generator_share)
        rest = [one for one in map(study.latest, study.records) if one.machine and one.capacity_qps and one not in seen]
        unfair = (
            " Configurations with fewer cores had them for themselves, so they look better beside it than they are."
        )
        yield Finding(
            "The load generator used the server's cores",
            f"In trial {worst.number} it took {share(_generator_share(worst))} of them: there are no others here. "
            f"Where its CPU is the limit the server may hold that much more than was measured."
            f"{unfair if rest else ''} A machine with more cores shows it.{_others(seen, worst)}",
            _numbers(seen),
        )


def _generator_share(one: TrialRecord) -> float:
    return 0.0 if one.machine is None else one.machine.generator_cores_shared / one.machine.server_cores


def _machine_speed(study: StudySummary) -> Iterator[Finding]:
    """Findings on the speed of the processor, and of the memory, which neighbours on other cores use too."""
    records = [study.latest(one) for one in study.records]
    compared = (
        "The table has capacities as they were measured; the search and the decision compare them at the mean speed."
    )
    timed = study.recommendation.machine is not None
    apart = "Capacities measured then do not compare with the others as they stand."
    for title, when, work, speeds, noise, remedy in (
        (
            "The machine's speed changed",
            "During",
            "the same work",
            machine_speeds(records),
            _SPEED,
            compared if timed else apart,
        ),
        ("The memory's speed changed", "Before", "the same copy", memory_speeds(records), _MEMORY_SPEED, apart),
    ):
        known = {one.number: speed for one, speed in zip(records, speeds, strict=True) if speed is not None}
        changed = {number: speed for number, speed in known.items() if abs(math.log(speed)) > math.log(1 + noise)}
        seen = [one for one in records if one.number in changed]
        if seen:
            worst = max(seen, key=lambda one: abs(math.log(changed[one.number])))
            yield Finding(
                title,
                f"{when} trial {worst.number} {work} ran at {share(changed[worst.number])} of the speed that it had in "
                "the first: another machine, another clock, or neighbours on the same processor. "
                f"{remedy}{_others(seen, worst)}",
                _numbers(seen),
            )


_LOOKS: Sequence[Callable[[StudySummary], Iterator[Finding]]] = (
    _idle_gpu, _gpu_memory_taken, _gpu_throttling, _throttling, _memory_growth, _unsettled, _disagreement, _client,
    _same_failure, _neighbours, _shared_cores, _machine_speed,
)  # fmt: skip


def _latest(study: StudySummary, seen: Callable[[TrialRecord], bool]) -> list[TrialRecord]:
    return [one for one in map(study.latest, study.records) if seen(one)]


def _numbers(records: Sequence[TrialRecord]) -> tuple[int, ...]:
    return tuple(one.number for one in records)


def _others(records: Sequence[TrialRecord], worst: TrialRecord) -> str:
    rest = [one for one in records if one is not worst]
    return f" Seen in {_listed(rest)} too." if rest else ""


def _listed(records: Sequence[TrialRecord]) -> str:
    shown = [f"trial {one.number} ({assigned(one.configuration)})" for one in records[:_MAX_TRIALS]]
    more = len(records) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
