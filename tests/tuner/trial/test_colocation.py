"""Several services on one machine: what is refused, what is searched, what is measured and exported."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests.conftest import Tune, recommendation
from tuner.errors import SpecError
from tuner.launch.checks.before_launch import hints, warnings
from tuner.launch.price import price_of
from tuner.spec.reading import load_spec

SERVER = Path(__file__).parent.parent.parent / "servers" / "misbehaving.py"


def service(name: str, service_ms: str, share: str, limit: str = "60ms", more: str = "") -> str:
    return f"""\
  - service:
      name: {name}
      command: [{sys.executable}, {SERVER}, --port, "{{port}}", --service-ms, "{{service_ms}}", --device, DEVICE]
      ready: {{path: /healthz, timeout: 20s}}
    share: {share}
    request: {{path: /predict, json: {{x: 1}}}}
    slo: {{p99: {limit}}}
    space: {{parameters: {{service_ms: {service_ms}, cpu_cores: [1, 2]}}{more}}}
"""


SPEC = f"""\
version: 1
services:
{service("embed", "[4, 6]", "50%")}\
{service("rank", "[8]", "50%")}\
budget: {{cpu_cores: 2}}
prices: {{cpu_core_hour: 0.04}}
load: {{max_trial: 10s, max_warmup: 2s}}
"""


@pytest.fixture
def tune(tune_in_process: Tune, needs_machine: None) -> Tune:
    """The servers and the load are processes; that the command line is one is tested elsewhere."""
    return tune_in_process


def write(folder: Path, text: str = SPEC) -> Path:
    path = folder / "spec.yaml"
    path.write_text(text.replace("DEVICE", str(folder / "device")), encoding="utf-8")
    return path


def test_what_is_warned_of_all_is_said_once_and_of_one_with_its_name(tmp_path: Path) -> None:
    loaded = load_spec(write(tmp_path, SPEC.replace("service_ms: [8]", "service_ms: [8], idle: [1, 2]")))
    found = list(warnings(loaded))
    assert sum(text.startswith("load.max_trial: ") for text in found) == 1
    assert sum(text.startswith("request.check is not set") for text in hints(loaded)) == 1
    assert "rank: the parameter idle reaches nothing: {idle} is in no command, env or file" in found


def test_the_space_is_that_of_all_within_the_budget(tmp_path: Path) -> None:
    loaded = load_spec(write(tmp_path))
    assert loaded.space.names == ("embed_service_ms", "embed_cpu_cores", "rank_service_ms", "rank_cpu_cores")
    found = list(loaded.space)
    assert {(one["embed_cpu_cores"], one["rank_cpu_cores"]) for one in found} == {(1, 1)}
    assert len(found) == 2
    assert price_of(loaded, found[0]) == pytest.approx(0.08)
    assert loaded.spec.service.name == "embed-rank"
    assert loaded.slo_texts == ("embed: p99 <= 60 ms", "rank: p99 <= 60 ms")


def test_constraints_hold_within_a_service_and_between_them(tmp_path: Path) -> None:
    text = SPEC.replace("cpu_cores: [1, 2]}}", 'cpu_cores: [1, 2]}, constraints: ["service_ms > 4"]}', 1)
    assert "service_ms > 4" in text
    loaded = load_spec(write(tmp_path, text + 'space: {constraints: ["embed_service_ms < rank_service_ms"]}\n'))
    assert [one["embed_service_ms"] for one in loaded.space] == [6]


GPUS = """\
version: 1
services:
- {service: {name: a}, space: {parameters: {gpu_type: [T4, none], gpu_memory: SLICES}}}
- {service: {name: b}, space: {parameters: {gpu_type: [T4], gpu_memory: SLICES}}}
budget: BUDGET
"""


@pytest.mark.parametrize(
    ("slices", "budget", "count"),
    [
        ('["25%", "50%", "100%"]', "{gpus: 1}", 4 + 9),
        ("[1g.5gb, 2g.10gb, 4g.20gb]", "{gpu_memory: 25Gi}", 6 + 9),
        ("[5Gi, 10Gi]", "{gpu_memory: 15Gi}", 3 + 4),
    ],
)
def test_a_gpu_is_shared_by_shares_by_bytes_and_by_mig(tmp_path: Path, slices: str, budget: str, count: int) -> None:
    loaded = load_spec(write(tmp_path, GPUS.replace("SLICES", slices).replace("BUDGET", budget)))
    assert loaded.space.size.count == count


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("share: 50%", "share: 60%", "services: the shares add up to 1.1 of the requests, not to 100%"),
        ("    share: 50%\n", "", "services.0.share: is missing; give every service its share, or none"),
        ("name: rank", "name: embed", "services: two services have one name"),
        ("version: 1\n", "version: 1\nslo: {p99: 9ms}\n", "slo: belongs to each of the services"),
        ("version: 1\n", "version: 1\nservice: {name: x}\n", "service: goes with services: no more"),
        ("{cpu_cores: 2}", "{cpu_cores: 1}", "no configuration satisfies all the constraints"),
        ("{cpu_cores: 2}", "{cpu_core: 2}", "budget.cpu_core: unknown key; did you mean cpu_cores?"),
        ("    slo: {p99: 60ms}\n", "", "services.0.slo: is missing"),
        ("service_ms}", "service_mz}", "services.0.service.command.5: unknown placeholder {service_mz}"),
        ("    request:", "    requests:", "services.0.requests: unknown key; did you mean request?"),
        ("service_ms: [4, 6]", "replicas: [1]", "services.0.space: several services are measured with one container"),
        (
            "version: 1\n",
            "version: 1\nobjective: {pareto: [capacity_qps, p99_ms]}\n",
            "objective: p99_ms is each service",
        ),
        (
            "service_ms: [8], cpu_cores",
            "service_ms: [8], cores",
            "services.1.space: has no parameter of the role cpu_cores",
        ),
        ("service_ms: [8]", "port: [8]", "services.1.space.parameters.port: rank_port is a name that the outputs use"),
        ("load: {", "load: {arrivals: closed, users: 3, ", "load: several services are loaded in an open loop"),
    ],
)
def test_what_does_not_go_together_is_said(
    tmp_path: Path, tune_in_process: Tune, before: str, after: str, said: str
) -> None:
    assert before in SPEC
    done = tune_in_process("validate", write(tmp_path, SPEC.replace(before, after, 1)))
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert "spec.yaml" in done.stderr


def test_a_budget_needs_something_to_bound(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"budget\.memory: a has no parameter of the role memory"):
        load_spec(write(tmp_path, GPUS.replace("SLICES", '["50%"]').replace("BUDGET", "{memory: 1Gi}")))
    with pytest.raises(SpecError, match="budget: is that of several services"):
        load_spec(write(tmp_path, "version: 1\nservice: {name: a}\nbudget: {cpu_cores: 2}\n"))


def test_one_service_is_no_list(tmp_path: Path) -> None:
    text = "version: 1\nservices:\n" + service("embed", "[4]", "100%")
    with pytest.raises(SpecError, match="has one service only"):
        load_spec(write(tmp_path, text))


def test_they_are_measured_one_trial_at_a_time(tmp_path: Path, tune_in_process: Tune) -> None:
    done = tune_in_process("--service", write(tmp_path), "--budget", "2", "--parallel", "2")
    assert done.returncode == 2
    assert "--parallel: several services" in done.stderr


@pytest.mark.slow
def test_they_are_tuned_together_and_their_interference_is_measured(tmp_path: Path, tune: Tune) -> None:
    done = tune("--service", write(tmp_path, SPEC.replace("[4, 6]", "[4]")), "--budget", "1", timeout=200)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "tuning" / "embed-rank"
    best = recommendation(folder)
    assert best["configuration"] == {
        "embed_service_ms": 4, "embed_cpu_cores": 1, "rank_service_ms": 8, "rank_cpu_cores": 1
    }  # fmt: skip
    assert best["confirmed"]
    # They stand in one line, so what one takes the other lacks: 0.29, by the simulation of the load test's own test.
    assert 0.15 < best["interference"] < 0.45
    assert [one["name"] for one in best["services"]] == ["embed", "rank"]
    assert sum(one["capacity_qps"] for one in best["services"]) == pytest.approx(best["capacity_qps"]["value"])
    assert all(one["p50_ms"] <= one["p90_ms"] <= one["p95_ms"] <= one["p999_ms"] for one in best["services"])
    assert any(text.startswith("Together: embed ") for text in best["reasons"])
    table = pd.read_csv(folder / "trials.csv")
    assert {"interference", "embed.p99_ms", "rank.alone_qps"} <= set(table.columns)
    for name in ("embed", "rank"):
        assert "listening on" in (folder / "trials" / "0000" / name / "server.log").read_text(encoding="utf-8")
    assert "The services beside each other" in (folder / "report.md").read_text(encoding="utf-8")
    files = _exported(tune, folder, "compose")
    assert set(files) == {"compose.yaml"}
    services = YAML(typ="safe", pure=True).load(files["compose.yaml"])["services"]
    assert set(services) == {"embed", "rank"}


def test_the_one_that_fails_is_named(tmp_path: Path, tune: Tune) -> None:
    text = SPEC.replace("ready:", "env: {X: y}\n      ready:", 1)
    broken = text.replace(f"{SERVER}", f"{SERVER}, --mode, exit", 2).replace(f"{SERVER}, --mode, exit", f"{SERVER}", 1)
    done = tune("--service", write(tmp_path, broken), "--budget", "1")
    assert done.returncode == 3
    assert "/trials/*/*/server.log\n" in done.stdout, "each service has a log of its own"
    folder = tmp_path / "tuning" / "embed-rank"
    for command in (("export", folder, "--format", "compose"), ("plan", folder, "--qps", "5")):
        done = tune(*command)
        assert done.returncode == 2
        assert "nothing of embed-rank could be measured" in done.stderr
        assert "a wider SLO" not in done.stderr
    path = folder / "trials" / "0000" / "trial.json"
    assert json.loads(path.read_text(encoding="utf-8"))["reason"].startswith("rank: the server exited with code 3")


def _exported(tune: Tune, folder: Path, form: str) -> dict[str, Any]:
    done = tune("export", folder, "--format", form, "--output", folder / "exported")
    assert done.returncode == 0, done.stderr
    return {str(path.relative_to(folder / "exported")): path for path in (folder / "exported").rglob("*.yaml")}
