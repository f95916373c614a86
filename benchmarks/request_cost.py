"""What one request to the dashboard costs in CPU time, for every callback that the page has, at its dearest.

    python -m benchmarks.request_cost [--trials 1000] [--goal 1.0]

A study of so many trials is written as the tuner writes them, and every callback is called as the page calls it, and
with the values of controls that cost most: all patterns of traffic, the most of it, every state a thousand times. The
first look is the one that has to read the study, with all modules loaded, as they are before the page can be asked.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.dashboard import write_study
from results.dashboard import make_app
from results.planning import PATTERNS
from tuner.commands.dashboard import Studies
from tuner.commands.options.stored import open_archive

_USUAL = {
    "tab.value": "overview", "states.value": ["complete"], "version.data": "x", "qps.value": 1000,
    "pattern.value": "steady", "misses.value": 0.1, "spare.value": 0, "spot-share.value": 0, "spot-price.value": 30,
}  # fmt: skip
_EVERY_STATE = ["complete", "pruned", "infeasible", "failed"] * 1000


def dearest(output: str, study: str, formats: Iterable[str]) -> Iterable[Mapping[str, Any]]:
    """The values of controls to try for the callback of that output."""
    if "plan.children" in output:
        controls = itertools.product(PATTERNS, (1, 1e6, 1e9), (1e-6, 0.1), ((0, 0), (1000, 50)))
        for kind, qps, misses, (spare, spot) in controls:
            yield {
                "pattern.value": kind, "qps.value": qps, "misses.value": misses, "spare.value": spare,
                "spot-share.value": spot,
            }  # fmt: skip
    elif "manifest.children" in output:
        yield from ({"format.value": name, "export-qps.value": 1e9} for name in formats)
    elif "grid.rowData" in output:
        yield {"states.value": _EVERY_STATE}
    elif "comparison" in output:
        yield {"other.value": study}
    elif output == "trial.children":
        yield {"grid.selectedRows": [{"number": 3}]}
    elif "trials-file" in output:
        yield {"trials-csv.n_clicks": 1}
    else:
        yield {}


def request(callback: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The body that the page sends."""
    output = callback["output"]
    places = [dict(zip(("id", "property"), one.rsplit(".", 1), strict=True)) for one in output.strip(".").split("...")]

    def with_values(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{**one, "value": values.get(f"{one['id']}.{one['property']}")} for one in parts]

    first = callback["inputs"][0]
    return {
        "output": output, "outputs": places if output.startswith("..") else places[0],
        "inputs": with_values(callback["inputs"]), "state": with_values(callback["state"]),
        "changedPropIds": [f"{first['id']}.{first['property']}"],
    }  # fmt: skip


def measured(folder: Path) -> dict[str, float]:
    """Seconds of CPU by what was asked for, the dearest of each."""
    archive = open_archive(folder, None, None)
    make_app(Studies({archive.name: archive}, None), None).test_client().get("/")  # loads what is imported at first use
    archive = open_archive(folder, None, None)
    studies = Studies({archive.name: archive}, None)
    client = make_app(studies, None).test_client()
    found: dict[str, float] = {}

    def asked(name: str, **body: Any) -> Any:
        begun = time.process_time()
        answer = client.post("/_dash-update-component", **body) if body else client.get(name)
        found[name] = max(found.get(name, 0.0), time.process_time() - begun)
        assert answer.status_code in (200, 204), f"{name}: {answer.status_code} {answer.data[:200]!r}"
        return answer

    asked("/")
    for callback in json.loads(asked("/_dash-dependencies").data):
        for values in dearest(callback["output"], archive.name, studies.formats(archive.name)):
            body = request(callback, {**_USUAL, "study.value": archive.name, **values})
            asked(callback["output"].strip(".").split("...")[0], json=body)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--goal", type=float, default=1.0, help="seconds of CPU that no request may cost more than")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write_study(Path(name) / "study", options.trials)
        found = measured(Path(name) / "study")
    for what, seconds in sorted(found.items(), key=lambda one: -one[1]):
        print(f"{what:30} {seconds:6.2f} s of CPU")
    missed = max(found.values()) > options.goal
    print(f"{options.trials} trials; goal {options.goal:g} s a request: {'MISSED' if missed else 'held'}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
