"""A trial that was too short to tell is no failure of its server."""

import math

from loadtest import TOO_SHORT
from results import Estimate, TrialRecord
from search_spaces import Parameter, SearchSpace
from tuner.outcome.recommendation import most_frequent
from tuner.search.contenders import pooled_record, refuted
from tuner.search.objective import Objective
from tuner.search.surrogate.encoder import STATES
from tuner.search.surrogate.space import trials_of

SPACE = SearchSpace((Parameter("cores", (1, 2, 4), "cpu_cores"),))


def _record(number: int, state: str, reason: str | None = None, **known: object) -> TrialRecord:
    return TrialRecord.model_validate(
        {"number": number, "state": state, "reason": reason, "configuration": {"cores": (1, 2, 4)[number]}} | known
    )


def test_the_search_takes_its_burst_for_a_bound() -> None:
    short = _record(0, "failed", f"{TOO_SHORT}: no rate was seen to hold", saturated_qps=1460.0)
    dead = _record(1, "failed", "the server ended with code 1")
    silent = _record(2, "failed", f"{TOO_SHORT}: no rate was seen to hold")
    slow = short.model_copy(update={"bottleneck": "client"})  # the generator's limit is no bound of the server's
    found = trials_of([short, dead, silent, slow], lambda one: one.number, SPACE, 50.0)
    assert [STATES[state] for state in found.state] == ["pruned", "failed"]
    assert found.log_capacity[0] == math.log(1460.0)


def test_a_final_launch_that_was_too_short_refutes_nothing() -> None:
    served = _record(0, "complete", capacity_qps=Estimate(value=100, low=90, high=110))
    short, lost = _record(0, "failed", f"{TOO_SHORT}: 40 requests"), _record(0, "failed", "the server ended")
    assert not refuted(served, [short])
    assert not refuted(served, [short, short])
    assert refuted(served, [lost])
    assert refuted(served, [short, lost])


def test_a_final_launch_that_was_too_short_hides_nothing_that_was_known() -> None:
    objective = Objective(("cost_per_million_requests",))
    pruned, lost = _record(0, "pruned", "it costs more", capacity_bound_qps=40.0), _record(0, "failed", "it ended")
    short = _record(0, "failed", f"{TOO_SHORT}: not ready after 3.0 s")
    assert pooled_record(objective, pruned, [short], None) == pruned
    assert pooled_record(objective, pruned, [lost, short], None) == lost
    assert pooled_record(objective, short, [short], None) == short


def test_trials_that_were_too_short_are_one_reason_however_slow_each_server_was() -> None:
    said = [f"{TOO_SHORT}: the time was over, since a lone request takes {seconds} s" for seconds in ("0.41", "12")]
    assert most_frequent([_record(number, "failed", one) for number, one in enumerate(said)]) == [
        f"2 of 2, for example: {said[1]}"
    ]


def test_reasons_that_differ_in_what_was_measured_alone_are_counted_together() -> None:
    late, later = "at 26.3 requests/s 1 of 63 requests missed", "at 1,240 requests/s 3 of 145 requests missed"
    crashed, busy = "the server exited with code 1", "answered 503"
    reasons = [crashed, late, later, late, busy, crashed, busy, "exited with code 3"]
    said = most_frequent([_record(number % 3, "failed", reason) for number, reason in enumerate(reasons)])
    assert said == [
        f"3 of 8, for example: {late}", f"2 of 8: {crashed}", f"2 of 8: {busy}",
        "1 of 8: for other reasons, which the report has.",
    ]  # fmt: skip
