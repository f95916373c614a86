"""Results of engines' own load tests, of inference-perf and llm-d, and predictions of AIConfigurator.

The shapes are those of real files, the figures are made up. Sources: the summary.csv and run=N.json of vLLM's
benchmarks/sweep/serve.py (0.15), a line of SGLang's bench_serving, the stages in inference-perf's demos (2025),
llm-d-benchmark's workload/report (0.1 in its README, 0.2 as its schema says), AIConfigurator's ColumnsAgg (0.7).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuner.errors import UsageError
from tuner.spec.reading import LoadedSpec, load_spec
from tuner.study.warm_start import WarmStart, read_warm_start

SPEC = """\
version: 1
service: {name: llama, server: vllm, model: {path: some/model}, image: "vllm/vllm-openai:v0.11.0"}
slo: SLO
request: {llm: {input_tokens: 128, output_tokens: 128}}
space:
  parameters:
    batch_size: {choices: [32, 64, 128, 256], role: batch_size}
    max_batched_tokens: {choices: [1024, 2048, 4096]}
    gpus: {choices: [1, 2, 4], role: gpus}
    tensor_parallel: {choices: [1, 2, 4], role: tensor_parallel}
    gpu: {choices: [H100, A100], role: gpu_type}
    precision: {choices: [auto, bf16, fp8], role: precision}
objective: {maximize: capacity_qps}
current: {batch_size: 32, max_batched_tokens: 2048, gpus: 1, tensor_parallel: 1, gpu: H100, precision: auto}
runner: {type: replay, table: table.csv}
"""
BENCH: dict[str, Any] = {
    "date": "20261001-101010", "endpoint_type": "openai", "label": None, "model_id": "some/model", "num_prompts": 1000,
    "request_rate": "inf", "burstiness": 1.0, "max_concurrency": 64, "duration": 50.0, "completed": 1000, "failed": 0,
    "total_input_tokens": 128000, "total_output_tokens": 128000, "request_throughput": 20.0, "request_goodput": None,
    "output_throughput": 2560.0, "mean_ttft_ms": 80.0, "median_ttft_ms": 70.0, "std_ttft_ms": 9.0, "p99_ttft_ms": 180.0,
    "mean_tpot_ms": 20.0, "median_tpot_ms": 19.0, "p99_tpot_ms": 30.0, "p99_itl_ms": 60.0, "median_e2el_ms": 2400.0,
    "p99_e2el_ms": 3100.0,
}  # fmt: skip
STAGE: dict[str, Any] = {
    "load_summary": {"count": 600, "requested_rate": 10.0, "achieved_rate": 10.01, "schedule_delay": {"p99": 0.002}},
    "successes": {
        "count": 600,
        "latency": {
            "request_latency": {"mean": 2.1, "median": 2.0, "p99": 2.9, "p99.9": 3.2, "max": 3.3},
            "time_to_first_token": {"mean": 0.08, "median": 0.07, "p99": 0.15},
            "time_per_output_token": {"mean": 0.02, "median": 0.02, "p99": 0.028},
            "inter_token_latency": {"mean": 0.02, "median": 0.02, "p99": 0.05},
            "normalized_time_per_output_token": {"mean": 0.02, "median": 0.02, "p99": 0.03},
        },
        "throughput": {"output_tokens_per_sec": 1280.0, "requests_per_sec": 9.9},
    },
    "failures": {"count": 0, "request_latency": None, "prompt_len": None},
}
TIMES = {"units": "ms", "mean": 90.0, "p50": 80.0, "p90": 120.0, "p99": 160.0, "p99p9": 200.0}
REPORT_01: dict[str, Any] = {
    "version": "0.1",
    "scenario": {
        "host": {"type": ["replica"], "accelerator": [{"model": "H100", "memory": 80, "count": 2}]},
        "platform": {"engine": [{"name": "vllm", "version": "0.11.0", "args": {
            "--tensor-parallel-size": 2, "--max-num-seqs": 128, "--dtype": "bfloat16", "--port": 8000}}]},
        "model": {"name": "some/model"}, "load": {"name": "inference-perf"},
    },
    "metrics": {
        "requests": {"total": 600, "failures": 0}, "latency": {"time_to_first_token": TIMES},
        "throughput": {"requests_per_sec": 31.5, "total_tokens_per_sec": 8000.0},
    },
}  # fmt: skip
REPORT_02: dict[str, Any] = {
    "version": "0.2", "run": {"uid": "1"},
    "scenario": {"stack": [
        {"metadata": {"label": "epp"}, "standardized": {"kind": "generic"}, "native": {"args": {"--max-num-seqs": 1}}},
        {"metadata": {"label": "vllm"}, "standardized": {"kind": "inference_engine", "accelerator": {"model": "A100"}},
         "native": {"args": {"--max-num-seqs": 64}}},
    ]},
    "results": {"request_performance": {"aggregate": {
        "requests": {"total": 100, "failures": 0},
        "latency": {"time_to_first_token": {"units": "s", "mean": 0.1, "p99": 0.17}},
        "throughput": {"requests_rate": {"units": "qps", "mean": 12.5}},
    }}},
}  # fmt: skip
PREDICTED = """\
index,model,isl,osl,prefix,concurrency,request_rate,bs,global_bs,ttft,tpot,request_latency,seq/s,seq/s/gpu,tokens/s,num_total_gpus,tp,pp,dp,parallel,gemm,memory,backend,version,system
0,some/model,128,128,0,64,22,64,64,120.5,18.2,2431.9,24.5,12.25,3136,2,2,1,1,tp2pp1,fp8,40.1,vllm,0.11.0,h100_sxm
1,some/model,128,128,0,256,40,256,256,410.0,30.1,4232.7,44.0,44.0,5632,1,1,1,1,tp1pp1,fp8,60.1,vllm,0.11.0,h100_sxm
"""


def spec(folder: Path, slo: str = "{ttft: {p99: 200ms}}") -> LoadedSpec:
    (folder / "table.csv").write_text("batch_size,capacity_qps\n32,10\n", encoding="utf-8")
    (folder / "spec.yaml").write_text(SPEC.replace("SLO", slo), encoding="utf-8")
    return load_spec(folder / "spec.yaml")


def read(folder: Path, name: str, content: Any, slo: str = "{ttft: {p99: 200ms}}") -> WarmStart:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_warm_start(path, spec(folder, slo))


def rates(found: WarmStart) -> list[tuple[dict[str, Any], float]]:
    return [(one.configuration, one.capacity_qps.value) for one in found.records if one.capacity_qps is not None]


def test_a_sweep_of_vllm_has_the_best_rate_of_each_configuration(tmp_path: Path) -> None:
    runs = [
        BENCH | {"run_number": 0, "max_num_seqs": 64, "max_num_batched_tokens": 1024, "request_throughput": 20.0},
        BENCH | {"run_number": 0, "max_num_seqs": 64, "max_num_batched_tokens": 1024, "request_throughput": 25.0},
        BENCH | {"run_number": 0, "max_num_seqs": 64, "max_num_batched_tokens": 1024, "request_throughput": 40.0,
                 "p99_ttft_ms": 350.0},
        BENCH | {"run_number": 0, "max_num_seqs": 128, "max_num_batched_tokens": 4096, "request_throughput": 33.0},
        BENCH | {"run_number": 0, "max_num_seqs": 512, "max_num_batched_tokens": 4096, "request_throughput": 99.0},
    ]  # fmt: skip
    wanted = [
        ({"batch_size": 64, "max_batched_tokens": 1024}, 25.0),
        ({"batch_size": 128, "max_batched_tokens": 4096}, 33.0),
    ]
    found = read(tmp_path, "summary.json", runs)
    assert rates(found) == wanted
    assert "they broke p99 to the first token <= 200 ms" in found.note
    assert "their configuration is not in the space" in found.note
    columns = list(runs[0])
    rows = ["," + ",".join(columns)] + [
        f"{number}," + ",".join("" if row[name] is None else str(row[name]) for name in columns)
        for number, row in enumerate(runs)
    ]
    assert rates(read(tmp_path, "summary.csv", "\n".join(rows) + "\n")) == wanted
    assert rates(read_warm_start(tmp_path, spec(tmp_path))) == wanted  # the sweep's folder


def test_one_result_of_vllm_is_of_the_current_configuration(tmp_path: Path) -> None:
    ((configuration, rate),) = rates(read(tmp_path, "result.json", BENCH))
    assert (configuration["batch_size"], configuration["gpu"], rate) == (32, "H100", 20.0)
    with pytest.raises(UsageError, match=r"more than 1.0% of their requests failed"):
        read(tmp_path, "result.json", BENCH | {"completed": 950, "failed": 50})
    with pytest.raises(UsageError, match="more than"):
        read(tmp_path, "result.json", {name: value for name, value in BENCH.items() if name != "failed"}
             | {"completed": 950})  # fmt: skip


def test_lines_of_sglang_are_of_the_options_that_they_name_or_of_the_current_ones(tmp_path: Path) -> None:
    line = {
        name: value for name, value in BENCH.items() if "e2el" not in name and name not in ("failed", "num_prompts")
    }
    line |= {"backend": "sglang", "p99_e2e_latency_ms": 3000.0, "median_e2e_latency_ms": 2000.0, "request_rate": 20.0}
    named = line | {"server_info": {"tp_size": 2, "max_running_requests": 128}, "request_throughput": 30.0}
    text = json.dumps(line) + "\n" + json.dumps(named) + "\n"
    found = rates(read(tmp_path, "out.jsonl", text, slo="{p99: 3100ms, ttft: {p99: 200ms}}"))
    assert [(one["batch_size"], one["tensor_parallel"], rate) for one, rate in found] == [(32, 1, 20.0), (128, 2, 30.0)]
    with pytest.raises(UsageError, match="they broke p99 <= 2900 ms"):
        read(tmp_path, "out.jsonl", text, slo="{p99: 2900ms}")


def test_stages_of_inference_perf_are_in_seconds_and_held_to_their_rate(tmp_path: Path) -> None:
    assert [rate for _, rate in rates(read(tmp_path, "stage_0_lifecycle_metrics.json", STAGE))] == [9.9]
    late = json.loads(json.dumps(STAGE))
    late["load_summary"] |= {"requested_rate": 80.0, "achieved_rate": 39.0}
    late["successes"]["throughput"]["requests_per_sec"] = 38.0
    (tmp_path / "stage_1_lifecycle_metrics.json").write_text(json.dumps(late), encoding="utf-8")
    found = read_warm_start(tmp_path, spec(tmp_path))  # the whole folder of a run
    assert [rate for _, rate in rates(found)] == [9.9]
    assert "its generator fell behind the rate that it was asked for" in found.note
    with pytest.raises(UsageError, match=r"they broke p99 to the first token <= 140 ms"):
        read(tmp_path, "one.json", STAGE, slo="{ttft: {p99: 140ms}}")


def test_a_report_of_llm_d_says_its_engines_options(tmp_path: Path) -> None:
    ((configuration, rate),) = rates(read(tmp_path, "report.json", REPORT_01))
    assert configuration == {"batch_size": 128, "tensor_parallel": 2, "gpu": "H100", "precision": "bf16"}
    assert rate == 31.5
    from results.exports.documents import to_yaml

    assert rates(read(tmp_path, "report.yaml", to_yaml([REPORT_01], "a report"))) == [(configuration, rate)]
    assert rates(read(tmp_path, "report2.json", REPORT_02)) == [({"batch_size": 64, "gpu": "A100"}, 12.5)]
    apart = json.loads(json.dumps(REPORT_01))
    apart["scenario"]["host"]["type"] = ["prefill", "decode"]
    with pytest.raises(UsageError, match="prefill and decode were served apart"):
        read(tmp_path, "apart.json", apart)
    two = json.loads(json.dumps(REPORT_01))
    two["scenario"]["platform"]["engine"] *= 2
    with pytest.raises(UsageError, match="several servers were measured at once"):
        read(tmp_path, "two.json", two)


def test_aiconfigurator_predicts_and_is_said_to(tmp_path: Path) -> None:
    found = read(tmp_path, "best_config_topn.csv", PREDICTED)
    ((configuration, rate),) = rates(found)
    assert configuration == {"batch_size": 64, "gpus": 2, "tensor_parallel": 2, "gpu": "H100", "precision": "fp8"}
    assert rate == 24.5
    assert "read 2 predictions, left out 1: 1 because they broke p99 to the first token" in found.note


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '[{"request_throughput": 1.0}]', '{"version": 1, "metrics": []}',
     '{"load_summary": 3, "successes": null}', '{"request_throughput": true}'],
)  # fmt: skip
def test_what_only_looks_like_a_result_is_refused_in_a_line_or_three(tmp_path: Path, content: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, "odd.json", content)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("no requests at all", REPORT_01 | {"metrics": REPORT_01["metrics"] | {"requests": {"total": 0}}}),
        ("400 digits", REPORT_01 | {"metrics": REPORT_01["metrics"] | {"requests": {"total": 10**400}}}),
        ("1e200 a second", REPORT_01 | {"metrics": REPORT_01["metrics"] | {"throughput": {"requests_per_sec": 1e200}}}),
        ("fewer than none failed", STAGE | {"failures": {"count": -600}}),
        ("fewer than none answered", STAGE | {"successes": STAGE["successes"] | {"count": -5}}),
        ("3,000 brackets", BENCH | {"failed": None, "num_prompts": None, "errors": "[" * 3000}),
    ],
)
def test_figures_that_no_tool_writes_are_left_out(tmp_path: Path, name: str, content: Any) -> None:
    with pytest.raises(UsageError, match=r"read 1 trial, left out 1: 1 because (a part|a figure)"):
        read(tmp_path, "odd.json", content)
