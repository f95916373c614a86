"""A server that ends for want of memory makes its configuration infeasible, whoever noticed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runners import out_of_memory
from tuner import tune

SPEC = """\
version: 1
service:
  name: greedy
  command: [{python}, -c, "import sys; sys.exit('torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {{batch_size}} GiB.')", "{{port}}"]
  ready: {{path: /, timeout: 20s}}
request: {{path: /}}
slo: {{p99: 50ms}}
space: {{parameters: {{batch_size: {{choices: [1, 2], role: batch_size}}}}}}
objective: {{maximize: capacity_qps}}
"""  # noqa: E501


@pytest.mark.parametrize(
    "line",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 4 GiB",
        "RuntimeError: CUDA error: out of memory",
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
        "java.lang.OutOfMemoryError: Java heap space",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "MemoryError",
        "llama_kv_cache: error: failed to allocate buffer for kv cache",
        "E0101 CUDA_ERROR_OUT_OF_MEMORY",
    ],
)
def test_a_line_that_names_a_want_of_memory_is_found(line: str) -> None:
    assert out_of_memory(f"loading\n{line}\nbye\n") == line


@pytest.mark.parametrize(
    "log",
    [
        "",
        "INFO: lower max_num_seqs should you run out of memory\nTraceback\nKeyError: 'port'",
        "ValueError: invalid batch size",
        "RuntimeError: out of memory\n" + "retried with a smaller batch\n" * 50 + "OSError: address in use",
    ],
)
def test_other_ends_are_no_want_of_memory(log: str) -> None:
    assert out_of_memory(log) == ""


@pytest.mark.usefixtures("needs_machine")
def test_its_configuration_is_infeasible_and_has_the_servers_own_words(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC.format(python=sys.executable), encoding="utf-8")
    study = tune(spec, budget=1, output=tmp_path / "out")
    (record,) = study.summary.records
    assert record.state == "infeasible"
    assert (record.reason or "").startswith(
        "out of memory, the server says: torch.OutOfMemoryError: CUDA out of memory"
    )
