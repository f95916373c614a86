"""Several endpoints at once: what they hold together, against a queue whose answer is known."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest

from loadtest import JointPlan, LatencyLimit, LoadGenerator, LoadPlan, RequestPlan, Slo, Target, pack
from loadtest.bundle import unpack
from runners.host.ports import Ports

SERVER = Path(__file__).parent.parent.parent / "servers" / "misbehaving.py"
SERVICES_MS = {"embed": 4.0, "rank": 8.0}
LIMIT_MS = 60.0


@pytest.fixture
def servers(tmp_path: Path, needs_machine: None) -> Iterator[dict[str, str]]:
    """Two servers that stand in one line."""
    with ExitStack() as stack:
        urls = {}
        for name, service_ms in SERVICES_MS.items():
            port = Ports().take()
            command = [sys.executable, str(SERVER), "--port", str(port), "--service-ms", str(service_ms)]
            process = subprocess.Popen([*command, "--device", str(tmp_path / "device")])
            stack.callback(process.wait)
            stack.callback(process.kill)
            urls[name] = f"http://127.0.0.1:{port}"
        for url in urls.values():
            for _ in range(100):
                try:
                    httpx.get(f"{url}/healthz", trust_env=False)
                    break
                except httpx.HTTPError:
                    time.sleep(0.05)
        yield urls


def joint(urls: dict[str, str], **changes: object) -> JointPlan:
    slo = Slo(latency=(LatencyLimit(percentile=99, limit_ms=LIMIT_MS),))
    request = RequestPlan(path="/predict", body="{}")
    targets = [
        Target(name=name, share=0.5, plan=LoadPlan(url=url, request=request, slo=slo, max_warmup_s=2.0, seed=number))
        for number, (name, url) in enumerate(urls.items())
    ]
    return JointPlan(targets=tuple(targets), **changes)  # type: ignore[arg-type]


def true_capacity(shares: dict[str, float], seed: int = 0) -> float:
    """The highest rate at which 99% of a common line's requests are within the limit, by Lindley's recursion."""
    generator, low, high = np.random.default_rng(seed), 10.0, 1000.0
    while high / low > 1.005:
        rate, count = (low * high) ** 0.5, 200_000
        gaps = generator.exponential(1 / rate, count)
        service = generator.choice([SERVICES_MS[name] / 1e3 for name in shares], count, p=list(shares.values()))
        # W[n+1] = max(0, W[n] + S[n] - A[n+1]) is the walk above its own minimum so far.
        walk = np.concatenate([[0.0], np.cumsum(service[:-1] - gaps[1:])])
        waits = walk - np.minimum.accumulate(walk)
        late = float(np.mean(waits + service > LIMIT_MS / 1e3))
        low, high = (rate, high) if late <= 0.01 else (low, rate)
    return low


@pytest.mark.alone
def test_what_two_servers_hold_together_and_alone(servers: dict[str, str]) -> None:
    with LoadGenerator() as generator:
        found = generator.measure(joint(servers, max_s=45.0), lambda _: None)
    assert found.outcome == "measured", found.reason
    assert found.capacity_qps is not None
    together = true_capacity({"embed": 0.5, "rank": 0.5})
    assert found.capacity_qps.value == pytest.approx(together, rel=0.12)
    for target in found.targets:
        assert target.alone_qps is not None
        assert target.alone_qps.value == pytest.approx(true_capacity({target.name: 1.0}), rel=0.15)
        assert target.p99_ms is not None
        assert target.p99_ms.value <= 1.1 * LIMIT_MS
        # Each has its own half of every common rate.
        rates = [probe.rate_qps for probe in target.probes]
        assert rates == [pytest.approx(probe.rate_qps / 2) for probe in found.probes]


def test_a_common_rate_that_one_of_them_misses_is_pruned_and_says_whose(servers: dict[str, str]) -> None:
    with LoadGenerator() as generator:
        found = generator.measure(joint(servers, max_s=40.0, first_rate_qps=260.0), lambda _: None)
    if found.outcome == "invalid" and any("others used" in probe.reason for probe in found.probes):
        pytest.skip(f"what others do on this machine leaves no miss sure: {found.probes[0].reason}")
    assert found.outcome == "pruned", found.reason
    assert found.bound_qps == 260.0
    assert "requests/s in all, " in found.reason
    assert all(target.alone_qps is None for target in found.targets)


def test_a_server_that_fails_is_named(servers: dict[str, str], tmp_path: Path) -> None:
    broken = joint(servers, max_s=10.0)
    rank = broken.targets[1].model_copy(
        update={"plan": broken.targets[1].plan.model_copy(update={"url": "http://127.0.0.1:9"})}
    )
    with LoadGenerator() as generator:
        found = generator.measure(broken.model_copy(update={"targets": (broken.targets[0], rank)}), lambda _: None)
    assert found.outcome == "infeasible"
    assert found.reason.startswith("rank: most requests of the warm-up failed")


def test_a_joint_plan_travels_with_its_files(tmp_path: Path) -> None:
    data = tmp_path / "requests.jsonl"
    data.write_text("{}\n", encoding="utf-8")
    plan = joint({"embed": "http://127.0.0.1:1", "rank": "http://127.0.0.1:2"})
    first = plan.targets[0]
    request = RequestPlan(path="/predict", dataset=str(data))
    own = first.model_copy(update={"plan": first.plan.model_copy(update={"request": request})})
    plan = plan.model_copy(update={"targets": (own, plan.targets[1])})
    (tmp_path / "pieces").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "pieces" / "0").write_bytes(pack(plan))
    there = JointPlan.model_validate_json(unpack(tmp_path / "pieces", tmp_path / "there"))
    assert there.targets[1] == plan.targets[1]
    assert Path(there.targets[0].plan.request.dataset or "").read_text(encoding="utf-8") == "{}\n"
