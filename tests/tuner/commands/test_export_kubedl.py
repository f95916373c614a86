"""A service that is told its port, exported for KubeDL, whose Services lead to a port of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from tests.conftest import Tune

SPEC = """\
version: 1
service: {name: one, image: "nvcr.io/nvidia/tritonserver:24.10-py3", command: [tritonserver, --http-port, "{port}"]}
space: {parameters: {cpu_cores: [1]}}
objective: {maximize: capacity_qps}
runner: {type: replay, table: table.csv}
"""


def test_the_only_service_listens_where_kubedls_service_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tune_in_process: Tune
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text("cpu_cores,capacity_qps\n1,100\n", encoding="utf-8")
    Path("spec.yaml").write_text(SPEC, encoding="utf-8")
    done = tune_in_process("--service", "spec.yaml", "--budget", "1", "--output", "out")
    assert done.returncode == 0, done.stderr
    exported = tune_in_process("export", "out", "--format", "kubedl")
    assert exported.returncode == 0, exported.stderr
    [inference] = [one for one in yaml.safe_load_all(exported.stdout) if one["kind"] == "Inference"]
    [server] = inference["spec"]["predictors"][0]["template"]["spec"]["containers"]
    assert server["command"][-1] == "8080"
    assert server["ports"] == [{"name": "http", "containerPort": 8080}]
