"""A trial whose server has a neighbour on its core says so everywhere, and is not failed for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from runners.host.machine import usable_cores
from tests.conftest import SERVER, Tune

BURN = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
print("ready", flush=True)
while True:
    end = time.perf_counter() + 0.3
    while time.perf_counter() < end:
        pass
    time.sleep(0.7)
"""
SPEC = f"""\
version: 1
service:
  name: disturbed
  command: [{sys.executable}, {SERVER}, --port, "{{port}}", --service-ms, "10", --workers, "{{workers}}"]
  ready: {{path: /healthz, timeout: 20s}}
request: {{path: /predict, json: {{x: 1}}}}
slo: {{p99: 300ms}}
space: {{parameters: {{cpu_cores: [1], workers: [1]}}}}
prices: {{cpu_core_hour: 0.04}}
objective: {{minimize: cost_per_million_requests, final: 0%}}
load: {{max_trial: 10s, max_warmup: 2s}}
"""


@pytest.mark.alone
@pytest.mark.skipif(len(usable_cores()) < 2, reason="the generator needs a core of its own")
def test_a_neighbour_on_the_servers_core_is_said_in_the_record_the_table_and_the_report(
    tune: Tune, tmp_path: Path
) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    core = str(usable_cores()[0])
    burner = subprocess.Popen([sys.executable, "-c", BURN, core], stdout=subprocess.PIPE, text=True)
    try:
        assert burner.stdout is not None
        assert burner.stdout.readline() == "ready\n"
        run = tune("--service", "spec.yaml", "--budget", "1", "--output", "out")
    finally:
        burner.kill()
        burner.communicate()
    assert run.returncode == 0, run.stderr
    record = json.loads((tmp_path / "out/trials/0000/trial.json").read_text(encoding="utf-8"))
    assert record["state"] == "complete", record["reason"]
    machine = record["machine"]
    assert machine["server_cores"] == 1
    assert 0.1 < machine["others_cores"] < 1
    assert machine["work_ms"] > 0
    assert 0 < machine["work_error"] < 1
    assert machine["copy_ms"] > 0
    assert "of the server's core" in machine["disturbed"]
    assert any("Neighbours disturbed" in note for note in record["notes"])
    [row] = pd.read_csv(tmp_path / "out/trials.csv").to_dict("records")
    assert row["others_cores"] == pytest.approx(machine["others_cores"])
    assert row["disturbed"] == machine["disturbed"]
    assert row["machine_speed"] == 1
    assert "Neighbours disturbed the measurement" in (tmp_path / "out/report.md").read_text(encoding="utf-8")
