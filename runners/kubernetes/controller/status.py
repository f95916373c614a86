"""A TuningRun's status, read off its Job, its pod and the events that `tune --json` writes to its log."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

FINISHED = ("Succeeded", "Failed")
_NOTHING_MEETS_SLO = 3  # the exit code of `tune`
_KILLED = 128  # an exit code above it is that plus a signal's number
_MAX_MESSAGE = 1000  # characters
_LEFT = "what it was measuring runs until this TuningRun is deleted or another begins"
CHANGED = "; its spec was changed after it began, which changes nothing: make another TuningRun"


@dataclass(frozen=True)
class PodState:
    """What is known of the pod that tunes. `waiting` is why its container does not run, `exit_code` how it ended, and
    `killed` why the cluster ended it, in its own words (`OOMKilled`, `Evicted: ...`); empty where it ended by itself.
    """

    log: str = ""
    waiting: str = ""
    exit_code: int | None = None
    killed: str = ""


def status_after(before: Mapping[str, Any], ended: str | None, pod: PodState | None) -> dict[str, Any]:
    """The status now. `ended` is how the Job ended, in the cluster's words: `Complete`, or why it failed."""
    status = _after_log(before, pod.log if pod else "")
    if pod is None or (pod.waiting and ended is None):
        status |= {"phase": "Pending", "message": pod.waiting if pod else "its pod is not there yet"}
    elif ended is None and pod.exit_code is None:
        status |= {"phase": "Running", "message": "tuning"}
    if ended is None:  # the Job's own word comes a moment after its pod's
        return status
    if ended == "Complete" and "decision" in status:
        return status | {"phase": "Succeeded", "message": "tuned"}
    return status | {"phase": "Failed", "message": _why(ended, pod)[:_MAX_MESSAGE]}


def _why(ended: str, pod: PodState | None) -> str:
    """What `tune` itself said, else the cluster."""
    if pod is not None and pod.exit_code == _NOTHING_MEETS_SLO:
        return "no configuration met the SLO"
    lines = [] if pod is None else pod.log.splitlines()
    begun = max((number for number, line in enumerate(lines) if line.startswith("tune: ")), default=None)
    if begun is not None:
        said = [line for line in lines[begun:] if not line.startswith("{")][:3]
        return " ".join(said).removeprefix("tune: ")
    if pod is not None and pod.killed:
        return f"the tuner's pod was killed: {pod.killed}; {_LEFT}"
    if pod is not None and pod.exit_code is not None and pod.exit_code > _KILLED:
        return f"the tuner was killed by signal {pod.exit_code - _KILLED}; {_LEFT}"
    if ended != "Complete":
        return ended
    return "the Job ended without a recommendation in its log"


def _after_log(before: Mapping[str, Any], log: str) -> dict[str, Any]:
    """How many trials are over, the best of them, and the decision. What an earlier log said stays where this one has
    no beginning, being cut, or goes on from a stored study; a pod that began anew has nothing of its predecessor's.
    """
    earlier, found, begun = dict(before), dict[str, Any](), False
    for line in _documents(log):
        if line.get("event") == "study":
            begun, found["trials"] = True, line.get("finished") or 0
            if not found["trials"]:
                earlier.pop("best", None)
        elif line.get("event") == "trial":
            record = line.get("record") or {}
            found["trials"] = found.get("trials", 0) + 1
            if line.get("best") is not None and line["best"] == record.get("number"):
                found["best"] = _best(record)
        elif "schema" in line and "configuration" in line:
            found["decision"] = {key: value for key, value in line.items() if key != "alternatives"}
            found["trials"] = sum((line.get("trials") or {}).values())
    if not begun and "trials" in earlier and "decision" not in found:
        found["trials"] = max(earlier["trials"], found.get("trials", 0))
    return earlier | found


def _best(record: Mapping[str, Any]) -> dict[str, Any]:
    def value(name: str) -> Any:
        """Of a figure with its interval, the figure."""
        given = record.get(name)
        return given.get("value") if isinstance(given, Mapping) else given

    latencies = {f"p{name}Ms": value(f"p{name}_ms") for name in ("50", "90", "95", "99", "999")}
    found = {
        "trial": record.get("number"), "configuration": record.get("configuration"),
        "capacityQps": value("capacity_qps"), **latencies, "costPerHour": value("cost_per_hour"),
        "costPerMillionRequests": value("cost_per_million_requests"),
    }  # fmt: skip
    language = record.get("language")
    for time in ("ttft", "tpot", "itl") if isinstance(language, Mapping) else ():
        if isinstance(seen := (language or {}).get(time), Mapping):
            found[time] = {f"{name.removesuffix('_ms')}Ms": one for name, one in seen.items() if one is not None}
    return {key: one for key, one in found.items() if one is not None}


def _documents(log: str) -> Iterator[dict[str, Any]]:
    """The lines that are JSON objects; one may be cut where reading began."""
    for line in log.splitlines():
        if line.startswith("{"):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found
