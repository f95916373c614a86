"""Every server's example, run as a user runs it: `make servers`, which sets them up first (several gigabytes).

That a knob reached its server is read from what the model itself printed there: the threads and the process that it
runs in, and the batches that it was given. Where an example is not set up its test is skipped.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.conftest import Tune, recommendation
from tests.tuner.test_process_run import survivors

EXAMPLES = Path(__file__).parent.parent / "examples"
SERVERS = (
    "triton", "torchserve", "mlserver", "kserve", "ray-serve", "litserve", "mosec", "onnxruntime", "openvino",
    "bentoml", "infinity",
)  # fmt: skip
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Launched:
    """A server, the configurations that it ran, and what its model printed."""

    configurations: list[dict[str, Any]]
    log: str

    def asked(self, name: str) -> set[Any]:
        return {one[name] for one in self.configurations if name in one}

    def seen(self, pattern: str) -> set[int]:
        return {int(found) for found in re.findall(pattern, self.log)}


def launches(folder: Path) -> list[Launched]:
    """Those that completed."""
    records = {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("trials/*/trial.json"))}
    done = {name: one for name, one in records.items() if one["state"] in ("complete", "pruned")}
    found = []
    for name, one in done.items():
        if one["reused_from"] is not None:
            continue
        sharing = [other["configuration"] for other in records.values() if other["reused_from"] == one["number"]]
        shared = [] if name.endswith("again") else sharing
        log = (folder / "trials" / name / "server.log").read_text(encoding="utf-8", errors="replace")
        found.append(Launched([one["configuration"], *shared], log))
    return found


def example(server: str) -> Path:
    """Its folder, once it is set up."""
    folder = EXAMPLES / server
    if not (folder / ".venv" / ".installed").exists():
        if os.environ.get("TUNE_TEST_SERVERS") == "required":
            pytest.fail(f"examples/setup {server} was not run")
        pytest.skip(f"examples/setup {server} was not run")
    return folder


@pytest.mark.parametrize("server", SERVERS)
def test_an_example_is_tuned_and_its_knobs_reach_the_server(tmp_path: Path, tune: Tune, server: str) -> None:
    folder = example(server)
    done = tune("--service", folder / "spec.yaml", "--budget", 6, "--output", "out", timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    best = recommendation(tmp_path / "out")
    assert (best["confirmed"], best["meets_slo"]) == (True, True)
    assert survivors(tmp_path) == []
    for one in launches(tmp_path / "out"):
        if threads := one.asked("threads"):
            assert one.seen(r"(\d+) threads") == threads, one.configurations
        copies = one.asked("workers") | one.asked("instances")
        processes = one.seen(r"process (\d+)")
        if processes and len(one.configurations) == 1:
            assert {len(processes)} == copies or (server == "triton" and len(processes) >= max(copies))
        if server == "infinity":  # it times a batch of its own before it is ready
            assert one.seen(r"timings for batch_size=(\d+)") == one.asked("batch_size")
        batches = one.seen(r"a batch of (\d+)")
        assert not batches or max(batches) <= max(one.asked("batch_size")), one.configurations
    most = [max(one.seen(r"a batch of (\d+)"), default=0) for one in launches(tmp_path / "out")]
    has_batches = any("batch_size" in one.configurations[0] for one in launches(tmp_path / "out"))
    assert server in ("mosec", "infinity") or max(most) > 1 or not has_batches, "no batch was seen"


@pytest.mark.parametrize(("server", "said"), [
    ("onnxruntime", {"graph_optimization": (r"graph optimization ORT_ENABLE_(\w+)", str.upper)}),
    ("openvino", {"streams": (r"(\d+) streams", str), "performance_hint": (r"hint [\w.]*?(LATENCY|THROUGHPUT)", str)}),
])  # fmt: skip
def test_an_engine_behind_fastapi_says_itself_what_it_was_given(
    tmp_path: Path, tune: Tune, server: str, said: dict[str, tuple[str, Any]]
) -> None:
    """What the session, or the compiled model, answers when it is asked for its own options."""
    done = tune("--service", example(server) / "spec.yaml", "--budget", 3, "--output", "out", timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    found = launches(tmp_path / "out")
    assert found
    for one in found:
        for name, (pattern, written) in said.items():
            assert set(re.findall(pattern, one.log)) == {written(str(value)) for value in one.asked(name)}


def test_llama_cpp_is_tuned_within_limits_on_tokens_and_its_knobs_reach_the_engine(tmp_path: Path, tune: Tune) -> None:
    """What the engine says of itself when it starts, and what it counts of its prompts."""
    done = tune("--service", example("llama-cpp") / "spec.yaml", "--budget", 4, "--output", "out", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    best = recommendation(tmp_path / "out")
    assert (best["confirmed"], best["meets_slo"]) == (True, True)
    assert best["language"]["good"] >= 0.95
    assert survivors(tmp_path) == []
    for one in launches(tmp_path / "out"):
        (values,) = one.configurations
        assert one.seen(r"n_slots = (\d+)") == {values["slots"]}
        assert one.seen(r"threadpool init, n_threads = (\d+)") == {values["threads"]}
        assert one.seen(r"n_batch += (\d+)") == {min(values["batch_size"], 512 * values["slots"])}
        assert one.seen(r"n_ubatch += (\d+)") == {values["ubatch_size"]}
        assert set(re.findall(r"K \((\w+)\)", one.log)) == {values["kv_cache_dtype"]}
        assert set(re.findall(r"flash_attn += (\w+)", one.log)) == {
            "enabled" if values["flash_attention"] else "disabled"
        }


@pytest.mark.timeout(1900)
def test_vllm_is_tuned_within_limits_on_tokens_and_its_knobs_reach_the_engine(tmp_path: Path, tune: Tune) -> None:
    """What the engine says of itself when it starts: its arguments, its scheduler and its cache."""
    folder = example("vllm")
    done = tune("--service", folder / "spec.yaml", "--budget", 4, "--output", "out", timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    best = recommendation(tmp_path / "out")
    assert (best["confirmed"], best["meets_slo"]) == (True, True)
    assert best["language"]["good"] >= 0.95
    assert best["language"]["good_of"] > 0
    assert survivors(tmp_path) == []
    for one in launches(tmp_path / "out"):
        (values,) = one.configurations
        assert one.seen(r"'max_num_seqs': (\d+)") == {values["batch_size"]}
        assert one.seen(r"max_num_batched_tokens=(\d+)") == {values["max_batched_tokens"]}
        assert one.seen(r"Maximum concurrency for (\d+) tokens") == {values["max_model_len"]}
        assert one.seen(r"'block_size': (\d+)") == {values["block_size"]}
        assert set(re.findall(r"enable_prefix_caching=(\w+)", one.log)) == {str(values["prefix_caching"])}
        assert set(re.findall(r"enforce_eager=(\w+)", one.log)) == {str(not values["compile"])}


def test_two_models_in_one_triton_have_their_shares_of_the_traffic(tmp_path: Path, tune: Tune) -> None:
    done = tune("--service", example("triton") / "two-models.yaml", "--budget", 1, "--output", "out", timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert recommendation(tmp_path / "out")["error_rate"] == 0.0


@pytest.mark.parametrize("spec", ["ensemble", "bls"])
def test_the_parts_of_a_triton_model_are_tuned_and_their_knobs_reach_them(
    tmp_path: Path, tune: Tune, spec: str
) -> None:
    done = tune("--service", example("triton") / f"{spec}.yaml", "--budget", 2, "--output", "out", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert recommendation(tmp_path / "out")["error_rate"] == 0.0
    for one in launches(tmp_path / "out"):
        batches = one.seen(r"a batch of (\d+)")
        assert batches, one.log
        assert max(batches) <= max(one.asked("digits_batch_size"))
        assert max(one.seen(r"instance scale_(?:0_)?(\d+)")) + 1 >= min(one.asked("scale_instances"))
    assert survivors(tmp_path) == []


@pytest.mark.parametrize("server", ["triton", "mlserver", "kserve"])
def test_the_same_example_is_loaded_over_grpc(tmp_path: Path, tune: Tune, server: str) -> None:
    folder = example(server)
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "spec.yaml").unlink()
    content = YAML(typ="safe", pure=True).load((folder / "spec.yaml").read_text(encoding="utf-8"))
    content["request"] = {"protocol": "grpc"}
    if server == "kserve":  # over HTTP its example is asked by V1; its server does not publish what a model takes
        content["service"]["model"]["inputs"] = {"pixels": {"datatype": "FP32", "shape": [1, 64]}}
        del content["quality"]
    (tmp_path / "spec.yaml").write_text(json.dumps(content), encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", 1, "--output", "out", timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    best = recommendation(tmp_path / "out")
    assert (best["confirmed"], best["error_rate"]) == (True, 0.0)


def test_two_servers_side_by_side_are_tuned_together(tmp_path: Path, tune: Tune) -> None:
    example("litserve"), example("mosec")
    done = tune("--service", EXAMPLES / "side-by-side" / "spec.yaml", "--budget", 3, "--output", "out", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    best = recommendation(tmp_path / "out")
    assert best["confirmed"]
    assert [one["name"] for one in best["services"]] == ["network", "forest"]
    assert best["interference"] is not None
    assert survivors(tmp_path) == []


def test_a_chain_of_three_is_tuned_and_its_times_are_known(tmp_path: Path, tune: Tune) -> None:
    folder = example("chain")
    done = tune("--service", folder / "spec.yaml", "--budget", 2, "--output", "out", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    chain = recommendation(tmp_path / "out")["chain"]
    assert [one["name"] for one in chain["stages"]] == ["decode", "classify", "rank"]
    times_ms = [one["service_ms"] + one["queue_ms"] for one in chain["stages"]]
    assert sum(times_ms) == pytest.approx(chain["whole_ms"], rel=0.05)
    assert survivors(tmp_path) == []


def test_a_server_without_an_adapter_takes_a_spec_of_at_most_twenty_lines() -> None:
    text = (EXAMPLES / "mosec" / "spec.yaml").read_text(encoding="utf-8")
    assert "server" not in YAML(typ="safe", pure=True).load(text)["service"]
    assert len(text.splitlines()) <= 20
