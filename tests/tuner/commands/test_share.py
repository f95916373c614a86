"""A study as a table for others: it replays to the same decision, and nothing in it says whose it was."""

from __future__ import annotations

import csv
import functools
import getpass
import itertools
import platform
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import Tune, call_tune, recommendation

SPEC = """\
version: 1
service:
  name: codename-falcon
  image: registry.acme.internal:5000/falcon/embedder:7
  command: [python, /home/alice/falcon/server.py, --port, "{port}", --weights, "{weights}"]
  env: {FALCON_TOKEN: "swordfish-1234", THREADS: "{threads}"}
request: {path: /v1/falcon, json: {customer: "Jane Roe"}}
slo: {p99: 80ms}
objective: {minimize: cost_per_million_requests}
space:
  parameters:
    cpu_cores: {choices: [1, 2, 4], role: cpu_cores}
    threads: {choices: [1, 2, 4], role: threads}
    gpu: {choices: [T4, A100 80GB], role: gpu_type}
    weights: {choices: [/home/alice/falcon/small.pt, "s3://acme-models/falcon/large.pt"]}
    mode: {choices: [auto, falcon-fast]}
  constraints: ["threads <= cpu_cores", "weights != 's3://acme-models/falcon/large.pt' or cpu_cores > 1",
                "weights != '/srv/osprey/old.pt'", "mode != 'auto' or cpu_cores >= 1"]
prices: {cpu_core_hour: 0.0471, gpu_hour: {T4: 0.3517, A100 80GB: 3.67}}
runner: {type: replay, table: table.csv}
current: {cpu_cores: 4, threads: 1, gpu: T4, weights: /home/alice/falcon/small.pt, mode: auto}
"""
SECRETS = (
    "falcon", "osprey", "acme", "alice", "swordfish", "Jane", "0.0471", "0.3517", "/home", "s3:", platform.node(),
    "spec.yaml:", "study.db",
)  # fmt: skip
COLUMNS = ("cpu_cores", "threads", "gpu", "weights", "mode")


@pytest.fixture
def tune(study: Path) -> Tune:
    return functools.partial(call_tune, study.parent)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("acme")
    weights = ("/home/alice/falcon/small.pt", "s3://acme-models/falcon/large.pt")
    with (tmp_path / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "capacity_qps", "p99_ms", "status"])
        for cores, threads, gpu, model, mode in itertools.product(
            (1, 2, 4), (1, 2, 4), ("T4", "A100 80GB"), weights, ("auto", "falcon-fast")
        ):
            qps = 50 * threads**0.8 * (3 if gpu != "T4" else 1) * (0.5 if "large" in model else 1)
            status = "oom" if gpu == "T4" and "large" in model else "ok"
            writer.writerow([cores, threads, gpu, model, mode, f"{qps:.3f}", 70, status])
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    done = call_tune(tmp_path, "--service", "spec.yaml", "--budget", 12, "--output", "out")
    assert done.returncode == 0, done.stderr
    return tmp_path / "out"


def test_nothing_that_is_shared_says_whose_it_is(tune: Tune, study: Path) -> None:
    done = tune("share", "out", "--licence", "CC0-1.0")
    assert done.returncode == 0, done.stderr
    files = {path.name: path.read_text(encoding="utf-8") for path in (study / "shared").iterdir()}
    assert sorted(files) == ["sheet.yaml", "spec.yaml", "table.csv"]
    for name, text in files.items():
        assert [one for one in SECRETS if one in text] == [], name
    user = getpass.getuser()
    assert user == "root" or all(user not in text for text in files.values())
    assert "weights-1" in files["table.csv"]
    assert "mode-1" in files["table.csv"]  # `auto` is everybody's word, `falcon-fast` is not
    assert "T4" in files["table.csv"]
    for said in ("texts of weights", "text of mode", "prices and their currency", "the host's name"):
        assert said in done.stdout
    constraints = YAML(typ="safe").load(files["spec.yaml"])["space"]["constraints"]
    assert constraints == ["threads <= cpu_cores", "mode != 'auto' or cpu_cores >= 1"]
    sheet = YAML(typ="safe").load(files["sheet.yaml"])
    assert (sheet["format"], sheet["licence"]) == ("tune-table/1", "CC0-1.0")
    assert set(next(csv.reader(files["table.csv"].splitlines()))) == set(sheet["columns"])


def test_what_is_shared_replays_to_the_same_decision(tune: Tune, study: Path) -> None:
    assert tune("share", "out", "--licence", "CC0-1.0", "--output", "public").returncode == 0
    done = tune("--service", "public/spec.yaml", "--budget", 12, "--output", "again")
    assert done.returncode == 0, done.stderr
    before, after = recommendation(study), recommendation(study.parent / "again")
    for name in ("cpu_cores", "threads", "gpu"):
        assert after["configuration"][name] == before["configuration"][name]
    assert after["capacity_qps"]["value"] == pytest.approx(before["capacity_qps"]["value"], rel=1e-4)
    assert after["saving"]["value"] == pytest.approx(before["saving"]["value"], rel=1e-3)


def test_prices_and_the_texts_of_a_parameter_stay_where_asked(tune: Tune, study: Path) -> None:
    done = tune("share", "out", "--licence", "CC-BY-4.0", "--keep", "mode", "--prices", "--about", "An embedder")
    assert done.returncode == 0, done.stderr
    table = (study / "shared" / "table.csv").read_text(encoding="utf-8")
    assert "falcon-fast" in table
    prices = {float(row["price_per_hour"]) for row in csv.DictReader(table.splitlines()) if row["price_per_hour"]}
    best = recommendation(study)["cost_per_hour"]
    assert any(price == pytest.approx(best, rel=1e-4) for price in prices)
    assert "An embedder" in (study / "shared" / "sheet.yaml").read_text(encoding="utf-8")


def test_what_cannot_be_shared_is_refused(tune: Tune, study: Path) -> None:
    done = tune("share", "out", "--licence", "CC0-1.0", "--keep", "wieghts")
    assert (done.returncode, "wieghts" in done.stderr) == (2, True)
    assert tune("share", "out").returncode == 2
    assert "--licence is empty" in tune("share", "out", "--licence", " ").stderr
    assert tune("share", "nowhere", "--licence", "CC0-1.0").returncode == 2
