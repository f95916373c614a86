"""A GPU of which nodes have one of several labels, exported as it was measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from tests.conftest import Tune

SPEC = """\
version: 1
service: {name: labelled, image: server:1, command: [server, --port, "{port}"]}
space: {parameters: {gpu_type: {choices: [A100], role: gpu_type}}}
prices: {gpu_hour: {A100: 2}}
runner:
  type: replay
  table: table.csv
  kubernetes: {gpu: {types: {A100: LABELS}}}
"""


@pytest.mark.parametrize("labels", [["NVIDIA-A100-SXM4-40GB"], ["NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-PCIE-40GB"]])
def test_a_pod_takes_any_node_that_the_measured_ones_took(
    labels: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tune_in_process: Tune
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text("gpu_type,capacity_qps,price_per_hour\nA100,100,2\n", encoding="utf-8")
    Path("spec.yaml").write_text(SPEC.replace("LABELS", str(labels)), encoding="utf-8")
    done = tune_in_process("--service", "spec.yaml", "--budget", "1", "--output", "out")
    assert done.returncode == 0, done.stderr
    exported = tune_in_process("export", "out", "--format", "kubernetes")
    assert exported.returncode == 0, exported.stderr
    [pod] = [
        one["spec"]["template"]["spec"] for one in yaml.safe_load_all(exported.stdout) if one["kind"] == "Deployment"
    ]
    if len(labels) == 1:
        assert pod["nodeSelector"] == {"nvidia.com/gpu.product": labels[0]}
        return
    [term] = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": "nvidia.com/gpu.product", "operator": "In", "values": labels}]
    assert "nodeSelector" not in pod
