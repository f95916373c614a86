"""Measures a table of configurations in the format that the replay runner reads, and the spec that replays it."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.on_gpu.design import CORE_HOUR, CORES, DELAY_MS, GPU_HOUR, WANTED, Configuration, Design, Server
from benchmarks.on_gpu.load import Client, capacity, reconfigure
from benchmarks.on_gpu.run import Run, until
from benchmarks.on_gpu.servers import Launched, launched

_READY_S = 120.0
_REPEATS = 4
_ROW_S = 25.0  # beyond it the server hangs
COLUMNS = (
    "gpu_share", "workers", "threads", "precision", "batch_size", "status", "capacity_qps", "saturated_qps", "p99_ms",
    "price_per_hour", "trial_s", "gpu_memory_mib", "multiprocessors",
)  # fmt: skip
Row = dict[str, Any]


Fleet = Mapping[Server, Launched]


@contextlib.contextmanager
def fleet(run: Run, plan: Design, mps: Mapping[str, str]) -> Iterator[Fleet]:
    """The servers of a design, all started at once, to be loaded one after the other. One that does not start is said
    and left out.
    """
    with contextlib.ExitStack() as stack:
        started = {server: stack.enter_context(_server(run, plan, server, mps)) for server in plan.servers}
        ready: dict[Server, Launched] = {}
        ends = min(time.monotonic() + _READY_S, run.ends - 10)
        for server, one in started.items():
            try:
                if until(ends, one.answers):
                    ready[server] = one
                else:
                    run.say(f"- {server}: not ready in {_READY_S:.0f} s: {one.last_words()}")
            except RuntimeError as error:
                run.say(f"- {server}: {error}")
        yield ready


def _server(
    run: Run, plan: Design, server: Server, mps: Mapping[str, str]
) -> contextlib.AbstractContextManager[Launched]:
    arguments = [*server_arguments(run, plan, server.workers), "--warm", plan.warm]
    env: dict[str, str] = {}
    if server.gpu_share < 1:
        arguments += ["--memory-fraction", f"{server.gpu_share:g}"]
        percentage = 100 * server.gpu_share / server.workers
        env = {**mps, "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": f"{percentage:g}"}
    return launched(arguments, run.output / "logs", f"server-{server.gpu_share:g}-{server.workers}", env)


def server_arguments(run: Run, plan: Design, workers: int) -> list[str]:
    """The same for a table and for a real run."""
    return [
        "--device", run.device, "--size", "full" if run.on_gpu else "tiny", "--workers", str(workers),
        "--batch-delay-ms", f"{DELAY_MS:g}", "--threads", str(plan.threads[-1]),
    ]  # fmt: skip


def price(server: Server, *, on_gpu: bool) -> float:
    """Per hour: the share of the GPU and the cores."""
    return (GPU_HOUR * server.gpu_share if on_gpu else 0.0) + CORE_HOUR * CORES


def measure(run: Run, plan: Design, servers: Fleet, ends: float, at_last: float) -> dict[str, list[Row]]:
    """Row by row into `gpu-MODEL.csv`, until all are measured or the time is over: at `ends`, or `at_last` while there
    are fewer of images than are wanted. Then some of them once more, to tell the scatter.
    """
    measured: dict[str, list[tuple[Configuration, Row]]] = {"vision": [], "encode": []}
    wanted = [one for one in plan.order() if one[1].server in servers]
    for model, one in wanted:
        if time.monotonic() > (ends if len(measured["vision"]) >= WANTED else at_last):
            break
        row = _measured(run, servers[one.server].port, model, one)
        measured[model].append((one, row))
        _append(run.output / f"gpu-{model}.csv", row, first=len(measured[model]) == 1)
    for model, pairs in measured.items():
        repeats: list[float] = []
        good = [pair for pair in pairs if pair[1]["capacity_qps"]]
        for one, row in good[:: max(1, len(good) // _REPEATS)]:
            if time.monotonic() < ends:
                second = _measured(run, servers[one.server].port, model, one, seed=1000)
                repeats.append(second["capacity_qps"] / row["capacity_qps"] - 1)
        if pairs:
            _tell(run, plan, model, [row for _, row in pairs], sum(name == model for name, _ in wanted), repeats)
    return {model: [row for _, row in pairs] for model, pairs in measured.items()}


def _append(path: Path, row: Row, *, first: bool) -> None:
    with path.open("w" if first else "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if first:
            writer.writeheader()
        writer.writerow(row)


def _measured(run: Run, port: int, model: str, one: Configuration, seed: int = 0) -> Row:
    """A row; one that cannot be measured is said, and `failed`."""
    row = _unmeasured(run, one)
    try:
        return row | asyncio.run(asyncio.wait_for(_row(run, port, model, one, seed), _ROW_S))
    except Exception as error:  # noqa: BLE001 (the other rows are worth having)
        run.say(f"- {model}, {one}: {type(error).__name__}: {error}")
        return row | {"status": "failed"}


def _unmeasured(run: Run, one: Configuration) -> Row:
    return {
        "gpu_share": one.server.gpu_share, "workers": one.server.workers, "threads": one.threads,
        "precision": one.precision, "batch_size": one.batch_size, "status": "ok", "capacity_qps": 0, "p99_ms": "",
        "saturated_qps": "", "price_per_hour": round(price(one.server, on_gpu=run.on_gpu), 4), "gpu_memory_mib": "",
        "multiprocessors": "", "trial_s": 0.0,
    }  # fmt: skip


async def _row(run: Run, port: int, model: str, one: Configuration, seed: int) -> Row:
    began, row = time.monotonic(), Row()
    status, answer = await reconfigure(
        port, {"batch_size": one.batch_size, "precision": one.precision, "threads": one.threads, "models": [model]}
    )
    if status != 200:
        row["status"] = "oom" if status == 507 else "failed"
    else:
        client = Client(port, f"/{model}")
        found = await capacity(client, one.batch_size * one.server.workers, run.limit_ms / 1e3, seed)
        await client.close()
        row |= {"capacity_qps": round(found.capacity_qps, 1), "saturated_qps": round(found.saturated_qps, 1)}
        row["p99_ms"] = "" if found.p99_ms is None else round(found.p99_ms, 2)
        reserved = [worker.get("reserved_bytes") for worker in answer["workers"]]
        row["multiprocessors"] = answer["workers"][0].get("multiprocessors", "")
        row["gpu_memory_mib"] = "" if None in reserved else round(sum(reserved) / 2**20)
    return row | {"trial_s": round(time.monotonic() - began, 2)}


def _tell(run: Run, plan: Design, model: str, rows: list[Row], wanted: int, repeats: list[float]) -> None:
    good = [row for row in rows if row["capacity_qps"]]
    states = {state: sum(row["status"] == state for row in rows) for state in ("ok", "oom", "failed")}
    run.say(
        f"{len(rows)} of {wanted} configurations of {model}: {len(good)} hold p99 {run.limit_ms:g} ms, {states['oom']} "
        f"out of memory, {states['failed']} failed; {sum(row['trial_s'] for row in rows):.0f} s."
    )
    if not good:
        return
    fastest = max(good, key=lambda row: float(row["capacity_qps"]))
    cheapest = min(good, key=lambda row: float(row["price_per_hour"] / row["capacity_qps"]))
    for what, row in (("most requests/s", fastest), ("cheapest per request", cheapest)):
        chosen = ", ".join(f"{name}={row[name]}" for name in COLUMNS[:5])
        run.say(f"- {what}: {chosen}: {row['capacity_qps']} requests/s, p99 {row['p99_ms']} ms")
    if repeats:
        run.say(
            f"- measured a second time, {len(repeats)} rows differ by "
            f"{100 * statistics.median(map(abs, repeats)):.1f}% in the median, "
            f"{100 * max(map(abs, repeats)):.1f}% at most"
        )
    _spec(run, plan, model, rows)
    run.note(model, {"rows": len(rows), "good": len(good), "fastest": fastest, "cheapest": cheapest, "again": repeats})


def _spec(run: Run, plan: Design, model: str, rows: list[Row]) -> None:
    """Replays the table: `tune --service gpu-MODEL.yaml --budget 20`."""

    def choices(name: str) -> str:
        seen = sorted({row[name] for row in rows}, key=lambda value: (isinstance(value, str), value))
        return ", ".join(str(value) for value in seen)

    constraint = "  constraints: [gpu_share == 1 or workers == 1]\n" if len(plan.shares) > 1 else ""
    (run.output / f"gpu-{model}.yaml").write_text(
        f"""\
version: 1
service: {{name: gpu-{model}}}
space:
  parameters:
    gpu_share: {{choices: [{choices("gpu_share")}], role: gpu_memory}}
    workers: {{choices: [{choices("workers")}], role: workers}}
    threads: {{choices: [{choices("threads")}], role: threads}}
    precision: {{choices: [{choices("precision")}], role: precision}}
    batch_size: {{choices: [{choices("batch_size")}], role: batch_size}}
{constraint}runner: {{type: replay, table: gpu-{model}.csv}}
""",
        encoding="utf-8",
    )
