"""`python -m benchmarks.gpu` where there is no GPU: its server, its tables, its order. Figures are for a real one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.on_gpu.design import WANTED, Design, Server, design
from benchmarks.on_gpu.load import Client, reconfigure
from benchmarks.on_gpu.run import Run, until
from benchmarks.on_gpu.servers import launched
from benchmarks.on_gpu.table import COLUMNS, _append, _spec, _unmeasured
from tests.conftest import Tune, recommendation


@pytest.mark.parametrize(("on_gpu", "shares"), [(True, True), (True, False), (False, False)])
def test_a_run_cut_short_has_measured_sixty_images_first(on_gpu: bool, shares: bool) -> None:
    order = list(design(on_gpu=on_gpu, shares=shares).order())
    assert len(order) == len(set(order))
    assert {model for model, _ in order[:WANTED]} == {"vision"}
    assert WANTED >= 60
    assert len({one for _, one in order[:WANTED]}) == WANTED


@pytest.mark.usefixtures("needs_machine")
def test_the_server_batches_and_is_told_while_it_runs(tmp_path: Path) -> None:
    arguments = ["--device", "cpu", "--size", "tiny", "--batch-size", "4", "--batch-delay-ms", "5"]
    with launched(arguments, tmp_path, "server", {"OMP_NUM_THREADS": "1"}) as server:
        assert until(time.monotonic() + 60, server.answers), server.last_words()

        async def use() -> None:
            for path in ("/vision", "/encode"):
                client = Client(server.port, path)
                assert await asyncio.gather(*(client.ask() for _ in range(10))) == [200] * 10
                await client.close()
            status, answer = await reconfigure(server.port, {"batch_size": 2, "precision": "bf16", "threads": 1})
            assert status == 200, answer
            for path, status in (("/vision", 200), ("/nothing", 404)):
                client = Client(server.port, path)
                assert await client.ask() == status
                await client.close()
            for wrong, said in (({"batchsize": 2}, "unknown: batchsize"), ({"workers": 2}, "at most 1")):
                status, answer = await reconfigure(server.port, wrong)
                assert status == 400
                assert said in answer["error"]
            [worker] = (await reconfigure(server.port, {}))[1]["workers"]
            assert set(worker["batch_sizes"]) <= {1, 2, 4}, "10 at once are batches of 4, 4 and 2, or of other sizes"

        asyncio.run(use())
    assert server.process.returncode == 0


def test_a_batch_runs_in_a_prepared_size_and_is_answered_as_by_itself() -> None:
    """In a process of its own: the worker's folder is no package."""
    script = """
import json, sys
sys.path.insert(0, sys.argv[1])
from worker import Worker, prepared_sizes
worker = Worker("tiny", "cpu", 1.0)
worker.configure("fp32", 1, 12, ["vision", "encode"])
worker.ran.clear()
same = True
for count in range(1, 13):
    items = list(range(count))
    for model in ("vision", "encode"):
        both = worker.run(model, items)["answers"]
        alone = [worker.run(model, [item])["answers"][0] for item in items]
        same = same and len(both) == count and all(
            abs(a - b) < 1e-4 for x, y in zip(both, alone) for a, b in (zip(x, y) if model == "encode" else [(x, y)]))
print(json.dumps([same, sorted(worker.ran), prepared_sizes(1), prepared_sizes(8), prepared_sizes(12)]))
"""
    examples = Path(__file__).parents[2] / "examples" / "gpu"
    done = subprocess.run(
        [sys.executable, "-c", script, str(examples)], capture_output=True, text=True, check=True,
        env=dict(os.environ, OMP_NUM_THREADS="1"),
    )  # fmt: skip
    same, ran, *sizes = json.loads(done.stdout)
    assert same
    assert ran == [1, 2, 4, 8, 12]
    assert sizes == [[1], [1, 2, 4, 8], [1, 2, 4, 8, 12]]


def test_a_table_replays_and_what_it_lacks_is_infeasible(tmp_path: Path, tune_in_process: Tune) -> None:
    run = Run("cuda", tmp_path, time.monotonic(), time.monotonic() + 60, 50.0)
    plan = Design((Server(1.0, 1), Server(0.25, 1), Server(1.0, 2)), (4,), ("fp32", "fp16"), (1, 16))
    rows = []
    for number, (_, one) in enumerate(order for order in plan.order() if order[0] == "vision"):
        capacity = 100.0 * one.batch_size**0.5 * (2 if one.precision == "fp16" else 1) * one.server.gpu_share**0.5
        rows.append(_unmeasured(run, one) | {"capacity_qps": round(capacity, 1), "p99_ms": 20.0})
        _append(tmp_path / "gpu-vision.csv", rows[-1], first=number == 0)
    assert (tmp_path / "gpu-vision.csv").read_text(encoding="utf-8").splitlines()[0] == ",".join(COLUMNS)
    _spec(run, plan, "vision", rows)
    done = tune_in_process("--service", tmp_path / "gpu-vision.yaml", "--budget", 12, "--output", "out")
    assert done.returncode == 0, done.stderr
    found = recommendation(tmp_path / "out")["configuration"]
    assert (found["gpu_share"], found["precision"], found["batch_size"]) == (0.25, "fp16", 16), (
        "the cheapest per request"
    )
