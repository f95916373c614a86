"""A trial's parts are values of their own in Python, and stand side by side in JSON."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from results import Estimate, Identity, Latencies, Timing, TrialRecord
from results.stored import StoredError, stored

RECORD = TrialRecord(
    number=3,
    state="complete",
    configuration={"threads": 2},
    capacity_qps=Estimate.exactly(90.0),
    latency=Latencies(p99_ms=Estimate.exactly(40.0)),
    timing=Timing(launch_s=2.5),
)


def test_json_has_the_keys_of_all_parts_side_by_side_and_is_read_back() -> None:
    content = json.loads(RECORD.model_dump_json())
    assert list(content)[: len(Identity.model_fields)] == list(Identity.model_fields)
    assert content["p99_ms"]["value"] == 40.0
    assert content["launch_s"] == RECORD.value_of("launch_s") == 2.5
    assert not {"latency", "timing", "use", "server", "evidence"} & content.keys()
    assert stored(TrialRecord, content) == TrialRecord.model_validate(content) == RECORD


def test_what_is_wrong_is_named_by_its_key_in_the_json() -> None:
    content = RECORD.model_dump(mode="json")
    for wrong in ({"launch_s": -1.0}, {"launch_s": "soon"}):
        with pytest.raises(StoredError, match=r"^launch_s"):
            stored(TrialRecord, content | wrong)
    later = content["p99_ms"] | {"later": 1}
    assert stored(TrialRecord, content | {"p99_ms": later, "later": 2}) == RECORD


def test_a_part_and_a_key_of_it_are_not_both_taken() -> None:
    with pytest.raises(ValidationError, match="launch_s"):
        TrialRecord.model_validate({"number": 1, "state": "failed", "configuration": {}, "timing": {}, "launch_s": 1.0})
