"""What a study found: the values that every output is made from, and their JSON.

The tuner fills them in, once and complete; reports, plans and gates read them. All are frozen and refuse unknown
fields. Money is in the currency of the spec's prices, times are in seconds, sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from results.trial_parts import (
    ChainRecord,
    Costs,
    Estimate,
    Identity,
    LanguageRecord,
    Latencies,
    MachineEffect,
    Observations,
    ParameterValue,
    Rates,
    Record,
    ServerFacts,
    ServiceRecord,
    Timing,
    TrialEvidence,
    Use,
)


class TrialRecord(Observations, Costs, Rates, Identity):
    """One configuration, launched and measured. Files and storages have it flat: the keys of its parts stand beside its
    own, so a key is one thing in all of them.
    """

    latency: Latencies = Latencies()
    timing: Timing = Timing()
    use: Use = Use()
    server: ServerFacts = ServerFacts()
    evidence: TrialEvidence | None = Field(
        default=None, exclude=True, repr=False, description="not in the record's JSON"
    )

    @classmethod
    def of(
        cls, identity: Identity, rates: Rates, latency: Latencies, costs: Costs, timing: Timing, use: Use,
        server: ServerFacts, observations: Observations,
    ) -> TrialRecord:  # fmt: skip
        """A record made from its parts, each complete."""
        own: dict[str, Any] = {
            name: getattr(part, name)
            for part in (identity, rates, costs, observations)
            for name in type(part).model_fields
        }
        return cls(latency=latency, timing=timing, use=use, server=server, **own)

    def value_of(self, key: str) -> Any:
        """What its JSON has under that key; None for a key that it does not have."""
        part = PART_OF.get(key)
        return getattr(self if part is None else getattr(self, part), key, None)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, content: Any) -> Any:
        """Take the keys of each part out of a flat content."""
        if not isinstance(content, Mapping) or PART_OF.keys().isdisjoint(content):
            return content
        own = dict[str, Any]()
        parts = {part: dict[str, Any]() for part in _KEYS if part not in content}
        for key, value in content.items():
            parts.get(PART_OF.get(key, ""), own)[key] = value
        return own | parts

    @model_serializer(mode="wrap")
    def _flatten(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        nested = handler(self)
        flat = nested | {key: value for part in _KEYS for key, value in nested[part].items()}
        return {key: flat[key] for key in _ORDER}


_KEYS = {
    name: tuple(part.model_fields)
    for name, part in (("latency", Latencies), ("timing", Timing), ("use", Use), ("server", ServerFacts))
}
PARTS = frozenset(_KEYS)
PART_OF = {key: part for part, keys in _KEYS.items() for key in keys}
_ORDER = tuple(
    key
    for part in (Identity, Rates, Latencies, Costs, Timing, Use, ServerFacts, Observations)
    for key in part.model_fields
)


class TrialCounts(Record):
    """How many trials ended in each state; `undecided` are those of the failed that were too short to tell,
    which the file does not say.
    """

    complete: int = 0
    pruned: int = 0
    infeasible: int = 0
    failed: int = 0
    undecided: int = Field(default=0, exclude=True)

    @property
    def why_nothing(self) -> str:
        """The headline where no configuration is recommended."""
        if not self.complete + self.pruned + self.infeasible:
            return "Nothing could be measured: every trial failed" if self.failed else "Nothing has been measured yet"
        return "No configuration met the SLO"

    @property
    def only_one(self) -> str | None:
        """How the one is described that no other can be compared with; None where more than one was measured."""
        if self.complete + self.pruned != 1:
            return None
        ends = {
            "infeasible": self.infeasible,
            "failed": self.failed - self.undecided,
            "too short to tell": self.undecided,
        }
        others = [f"{number} {end}" for end, number in ends.items() if number]
        if not others:
            return "the only one that was tried"
        tried = 1 + self.infeasible + self.failed
        return f"the only one of {tried} tried that served within the SLO ({', '.join(others)})"

    def nothing_to(self, do: str, service: str) -> str:
        """That nothing was found which could be exported, planned with or verified (`do`), and what to do."""
        if not self.complete + self.pruned + self.infeasible + self.failed:
            return (
                f"nothing of {service} has been measured yet, so there is nothing to {do}\n"
                "Wait for its first trials; a run that was interrupted goes on with `resume`."
            )
        if not self.complete + self.pruned + self.infeasible:
            return (
                f"nothing of {service} could be measured, so there is nothing to {do}\n"
                "report.md says what went wrong; mend that, and run it again"
            )
        return (
            f"no configuration of {service} held its SLO, so there is nothing to {do}\n"
            "report.md says what was found; a longer run (`budget`) or a wider SLO may find one"
        )


class Choice(Record):
    """One configuration as it is offered to the user: the recommendation itself, or an alternative to it.

    `capacity_qps` and the costs are those of all its `launches` together. The latencies and `error_rate` are those of
    the last launch that served, seen at the rate `latencies_at_qps` on so many requests: the highest that held.
    """

    configuration: dict[str, ParameterValue]
    capacity_qps: Estimate
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: Estimate | None
    p999_ms: float | None = None
    latencies_at_qps: float | None = None
    latencies_from_requests: int | None = None
    error_rate: float | None
    cost_per_hour: float | None
    cost_per_million_requests: float | None
    meets_slo: bool
    confirmed: bool
    trial: int
    services: tuple[ServiceRecord, ...] = ()
    interference: float | None = None
    chain: ChainRecord | None = None
    language: LanguageRecord | None = None
    launches: int = 1

    @property
    def latency(self) -> Latencies:
        """Its latency and error rate, as a trial has them."""
        return _latencies(self)


def _latencies(of: Choice | Recommendation) -> Latencies:
    return Latencies(
        p50_ms=of.p50_ms, p90_ms=of.p90_ms, p95_ms=of.p95_ms, p99_ms=of.p99_ms, p999_ms=of.p999_ms,
        latencies_at_qps=of.latencies_at_qps, latencies_from_requests=of.latencies_from_requests,
        error_rate=of.error_rate,
    )  # fmt: skip


Action = Literal["deploy", "keep", "uncertain"]


class Recommendation(Record):
    """The contents of `recommendation.json` (schema 1).

    Where no configuration met the SLO, `configuration` and the figures are null, `meets_slo` and `confirmed` are
    false, and `reasons` says what was found instead.

    All money is in `currency` (`EUR`; None in a file of an earlier version, which did not say it).
    The capacity and the costs rest on all `launches` of the configuration together, the latencies and `error_rate` on
    the last that served, at the rate `latencies_at_qps`. `decision` is what to do with it: deploy it, keep it since
    it is today's and nothing is surely cheaper, or neither with the `confidence` that was asked for.
    `probability_best` is that nothing else of what was measured is better, `probability_near_best` that nothing is
    by more than 2%. Against today's configuration, where the spec names another: `probability_cheaper` is that it
    is better by the objective, `saving` the share by which it is, with the interval of the difference (negative:
    worse). `untried_improvement` is the share by which the best configuration that was not tried is expected to be
    better.
    `machine` says for which speed of the machine the capacities are, where that was timed. `slo` is what they are held
    within, in words (None in a file of an earlier version). `doubt` is what no figure knows, where that is why nothing
    is deployed: the end of "uncertain, since ...".
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    service: str
    slo: tuple[str, ...] | None = None
    currency: str | None = None
    configuration: dict[str, ParameterValue] | None
    capacity_qps: Estimate | None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: Estimate | None
    p999_ms: float | None = None
    latencies_at_qps: float | None = None
    latencies_from_requests: int | None = None
    error_rate: float | None
    cost_per_hour: float | None
    cost_per_million_requests: float | None
    meets_slo: bool
    confirmed: bool
    trial: int | None
    trials: TrialCounts
    services: tuple[ServiceRecord, ...] = ()
    interference: float | None = None
    chain: ChainRecord | None = None
    language: LanguageRecord | None = None
    launches: int = 0
    decision: Action | None = None
    doubt: str | None = None
    confidence: float | None = None
    probability_best: float | None = None
    probability_near_best: float | None = None
    probability_cheaper: float | None = None
    saving: Estimate | None = None
    untried_improvement: float | None = None
    machine: MachineEffect | None = None
    alternatives: tuple[Choice, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def latency(self) -> Latencies:
        """Its latency and error rate, as a trial has them."""
        return _latencies(self)
