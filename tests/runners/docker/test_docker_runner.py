"""The Docker runner against a real engine and real containers."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest

from runners import Container, Infeasible, Placement, Resources, RunnerUnavailable, ServerFailed
from runners.docker.devices import NamedDevices
from runners.docker.runner import DockerOptions, DockerRunner
from runners.docker.server import as_sample
from runners.leftovers.ownership import OWNER, TRIAL
from runners.testing import RunnerCase, RunnerContract
from tests.runners import support
from tests.runners.engines import IMAGE, docker_with

SERVER = ("python3", "misbehaving.py", "--host", "{host}", "--port", "{port}", "--mode")
MIB = 2**20
_RUNNERS: list[DockerRunner] = []


@pytest.fixture(autouse=True)
def _engine(needs_engine: None) -> Iterator[None]:
    docker_with(IMAGE)
    yield
    while _RUNNERS:
        _RUNNERS.pop().close()


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    with contextlib.closing(docker.from_env()) as found:
        yield found


def container(placement: Placement, folder: Path, mode: str = "ok", *more: str, **options: Any) -> Container:
    words = (*SERVER, mode, *more)
    command = tuple(word.replace("{host}", placement.host).replace("{port}", str(placement.port)) for word in words)
    return support.container(placement, folder, mode, **{"command": command, **options})


def runner(**options: Any) -> DockerRunner:
    _RUNNERS.append(DockerRunner(DockerOptions(**{"image": IMAGE, **options})))
    return _RUNNERS[-1]


@contextlib.contextmanager
def launched(folder: Path, *words: str, **options: Any) -> Any:
    one = runner()
    with one.launch(container(one.place(folder), folder, *words, **options)) as endpoint:
        yield endpoint


def ours(client: docker.DockerClient) -> list[Any]:
    """Containers of this test process."""
    found = client.containers.list(all=True, filters={"label": OWNER})
    return [one for one in found if one.labels[OWNER].startswith(f"{os.getpid()}-")]


class TestDockerRunnerContract(RunnerContract):
    @pytest.fixture
    def case(self, tmp_path: Path, client: docker.DockerClient) -> RunnerCase:
        return RunnerCase(
            runner(),
            good=container,
            failing=lambda placement, folder: container(placement, folder, "exit"),
            impossible=lambda placement, folder: container(placement, folder, resources=Resources(cpu_cores=4096)),
            reachable=lambda _: bool(ours(client)),
            folder=tmp_path,
            lost_run=partial(support.lost_run, "tests.runners.docker.test_docker_runner"),
        )


def test_a_container_is_as_the_configuration_says(
    tmp_path: Path, client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LICENCE_KEY", "very-secret-4711")
    asked = Resources(cpu_cores=0.5, memory_bytes=256 * MIB)
    (tmp_path / "model").write_text("weights", encoding="utf-8")
    one = runner(shm_bytes=32 * MIB, mounts={"/models/model": tmp_path / "model"})
    given = container(
        one.place(tmp_path), tmp_path, resources=asked, files={"a/config.txt": "threads=3"}, env={"THREADS": "3"},
        secrets=("LICENCE_KEY",),
    )  # fmt: skip
    with one.launch(given) as endpoint:
        [found] = ours(client)
        host = found.attrs["HostConfig"]
        assert (host["NanoCpus"], host["Memory"], host["MemorySwap"], host["ShmSize"]) == (
            500_000_000, 256 * MIB, 256 * MIB, 32 * MIB,
        )  # fmt: skip
        assert len(host["CpusetCpus"]) == 1
        [published] = found.attrs["NetworkSettings"]["Ports"]["8000/tcp"]
        assert published["HostIp"] == "127.0.0.1"
        assert found.labels[TRIAL] == "7"
        assert found.exec_run(["cat", "/tune/files/a/config.txt"]).output == b"threads=3"
        assert found.exec_run(["touch", "/tune/files/new"]).exit_code != 0
        assert found.exec_run(["cat", "/models/model"]).output == b"weights"
        assert found.exec_run(["printenv", "THREADS"]).output == b"3\n"
        assert b"\0LICENCE_KEY=very-secret-4711\0" in found.exec_run(["cat", "/proc/1/environ"]).output
        assert "very-secret-4711" not in json.dumps(client.api.inspect_container(found.id))
        assert found.exec_run(["cat", "/proc/1/cmdline"]).output.startswith(b"python3\0"), "no shell stays before it"
        assert httpx.get(f"http://127.0.0.1:{published['HostPort']}/healthz").status_code == 200
        assert httpx.get(f"{endpoint.url}/healthz").status_code == 200
    assert "listening on" in (tmp_path / "server.log").read_text(encoding="utf-8")


ODD = "'; touch /made; $(id) \"\n\\ -----END\n"


def test_a_secret_reaches_the_server_as_it_is_and_no_shell_reads_the_command(
    tmp_path: Path, client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LICENCE_KEY", ODD)
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nUSER 1000\n", encoding="utf-8")
    one = runner(image="tune-user:1", build=tmp_path)
    words = ("--fill", "/$(touch /tmp/made)`id`")
    given = container(one.place(tmp_path), tmp_path, "ok", *words, secrets=("LICENCE_KEY",))
    with contextlib.ExitStack() as stack:
        stack.callback(client.images.remove, "tune-user:1", force=True)
        stack.enter_context(one.launch(given))
        [found] = ours(client)
        assert f"LICENCE_KEY={ODD}".encode() in found.exec_run(["cat", "/proc/1/environ"]).output.split(b"\0")
        assert b"/$(touch /tmp/made)`id`" in found.exec_run(["cat", "/proc/1/cmdline"]).output.split(b"\0")
        assert found.exec_run(["ls", "/tmp/made", "/made"]).exit_code != 0


def test_with_secrets_the_images_own_program_still_runs_where_there_is_no_command(
    tmp_path: Path, client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LICENCE_KEY", "very-secret-4711")
    words = json.dumps([*SERVER[:2], "--host", "0.0.0.0", "--port", "8000"])
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nENTRYPOINT {words}\nCMD []\n", encoding="utf-8")
    one = runner(image="tune-own-program:1", build=tmp_path)
    given = container(one.place(tmp_path), tmp_path, secrets=("LICENCE_KEY",))
    try:
        with one.launch(replace(given, command=())) as endpoint:
            assert httpx.get(f"{endpoint.url}/healthz").status_code == 200
    finally:
        client.images.remove("tune-own-program:1", force=True)


def test_secrets_of_an_image_without_a_shell_are_said_and_given_in_the_environment_when_asked(
    tmp_path: Path, client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LICENCE_KEY", "very-secret-4711")
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nUSER root\nRUN rm /bin/sh\n", encoding="utf-8")
    one = runner(image="tune-no-shell:1", build=tmp_path)
    shown = runner(image="tune-no-shell:1", secrets_in_environment=True)
    given = container(one.place(tmp_path), tmp_path, secrets=("LICENCE_KEY",))
    try:
        said = r"no /bin/sh.*\n.*runner\.docker\.secrets: environment"
        with pytest.raises(RunnerUnavailable, match=said), one.launch(given):
            pass
        assert ours(client) == []
        with shown.launch(given):
            [found] = ours(client)
            assert found.exec_run(["printenv", "LICENCE_KEY"]).output == b"very-secret-4711\n"
    finally:
        client.images.remove("tune-no-shell:1", force=True)


def test_a_command_takes_the_place_of_the_images_own(tmp_path: Path, client: docker.DockerClient) -> None:
    (tmp_path / "Dockerfile").write_text(f'FROM {IMAGE}\nENTRYPOINT ["echo", "its own"]\n', encoding="utf-8")
    one = runner(image="tune-entrypoint:1", build=tmp_path)
    try:
        with one.launch(container(one.place(tmp_path), tmp_path)) as endpoint:
            assert httpx.get(f"{endpoint.url}/healthz").status_code == 200
    finally:
        client.images.remove("tune-entrypoint:1", force=True)


def test_a_server_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed) as caught, launched(tmp_path, "exit"):
        pass
    assert caught.value.reason == "the server exited with code 3: error: no model here"
    assert "no model here" in caught.value.log_tail
    with pytest.raises(ServerFailed) as caught, launched(tmp_path, command=("no-such-program",)):
        pass
    assert "cannot run 'no-such-program'" in caught.value.reason
    with pytest.raises(ServerFailed, match="code 0, as if it had finished"), launched(tmp_path, command=("true",)):
        pass


def test_a_server_that_nobody_outside_reaches_is_told_where_it_listens(tmp_path: Path) -> None:
    words = tuple(word.replace("{host}", "127.0.0.1").replace("{port}", "8000") for word in SERVER)
    with pytest.raises(ServerFailed) as caught, launched(tmp_path, command=(*words, "ok"), timeout_s=3.0):
        pass
    assert caught.value.reason == (
        "not ready within 3 s (service.ready.timeout): /healthz: connection refused; inside its container it listens "
        "on 127.0.0.1:8000, and not on 0.0.0.0:8000: pass it {host} and {port}"
    )
    with pytest.raises(ServerFailed, match=r"/healthz: answered 503 \(loading\)$"):  # it listens where it should
        launched(tmp_path, "never-ready", timeout_s=3.0).__enter__()


def test_too_much_memory_is_told_apart_from_a_crash(tmp_path: Path, client: docker.DockerClient) -> None:
    asked = Resources(memory_bytes=96 * MIB)
    with (
        pytest.raises(Infeasible, match=r"out of memory.*96 MiB"),
        launched(tmp_path, "eat-memory", resources=asked) as found,
    ):
        for _ in range(100):
            with contextlib.suppress(httpx.HTTPError):
                httpx.post(f"{found.url}/predict", timeout=2)
            found.check()
    with pytest.raises(ServerFailed, match="was killed"), launched(tmp_path) as found:
        ours(client)[0].kill()
        found.check()


def test_a_child_killed_for_memory_counts_though_its_parent_lives(tmp_path: Path) -> None:
    eat = (
        "import subprocess, sys, time; subprocess.run([sys.executable, '-c', 'b = bytearray(400 * 2**20)']);"
        "time.sleep(60)"
    )
    given = {"resources": Resources(memory_bytes=64 * MIB), "command": ("python3", "-c", eat)}
    with pytest.raises(Infeasible, match="out of memory"), launched(tmp_path, **given):
        pass


def test_a_core_is_a_core_and_throttling_is_seen(tmp_path: Path) -> None:
    burn = (
        "import multiprocessing as m, sys; sys.argv = ['x', '--host', '0.0.0.0', '--port', '8000', '--mode', 'ok'];"
        "[m.Process(target=exec, args=('while True: pass',), daemon=True).start() for _ in range(2)];"
        "import runpy; runpy.run_path('misbehaving.py', run_name='__main__')"
    )
    with launched(tmp_path, command=("python3", "-c", burn), resources=Resources(cpu_cores=0.5)) as found:
        begun = time.monotonic()
        time.sleep(4)
        usage = found.usage(begun + 0.5, time.monotonic())
    assert usage.cpu_cores_mean is not None
    assert 0.3 < usage.cpu_cores_mean < 0.6  # less where the whole machine is short of time
    assert usage.throttled_share is not None and usage.throttled_share > 0.5
    assert usage.memory_peak_bytes is not None and usage.memory_peak_bytes > 5 * MIB
    assert len((tmp_path / "usage.csv").read_text(encoding="utf-8").splitlines()) > 4


def test_containers_at_the_same_time_have_cores_of_their_own(tmp_path: Path, client: docker.DockerClient) -> None:
    one = runner()
    asked = Resources(cpu_cores=1)
    with contextlib.ExitStack() as stack:
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir()
            stack.enter_context(one.launch(container(one.place(folder), folder, resources=asked)))
        sets = {found.attrs["HostConfig"]["CpusetCpus"] for found in ours(client)}
    assert len(sets) == min(2, os.cpu_count() or 1)


def test_a_best_effort_container_has_the_least_share_and_keeps_nobody_waiting(
    tmp_path: Path, client: docker.DockerClient
) -> None:
    one = runner()
    every = Resources(cpu_cores=os.cpu_count() or 1)
    with contextlib.ExitStack() as stack:
        for name, options in (("batch", {"best_effort": True}), ("online", {"resources": every})):
            folder = tmp_path / name
            folder.mkdir()
            made = container(one.place(folder), folder)
            stack.enter_context(one.launch(dataclasses.replace(made, **options)))
        shares = {
            found.attrs["HostConfig"]["CpuShares"]: found.attrs["HostConfig"]["NanoCpus"] for found in ours(client)
        }
    assert shares == {2: 0, 0: every.cpu_cores * 1e9}  # type: ignore[operator]


def test_no_image_ends_the_study_and_says_what_to_do(tmp_path: Path) -> None:
    one = runner(image="localhost:1/there-is-none:1")
    with pytest.raises(RunnerUnavailable, match="no image localhost:1/there-is-none:1") as caught:
        one.launch(container(one.place(tmp_path), tmp_path)).__enter__()
    assert "runner.docker.build" in str(caught.value)


def test_an_image_is_built_from_its_folder(tmp_path: Path, client: docker.DockerClient) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {IMAGE}\nENV BUILT=yes\n", encoding="utf-8")
    one = runner(image="tune-test-built:1", build=context)
    try:
        with one.launch(container(one.place(tmp_path), tmp_path)):
            assert ours(client)[0].exec_run(["printenv", "BUILT"]).output == b"yes\n"
    finally:
        client.images.remove("tune-test-built:1", force=True)


@pytest.mark.parametrize("given", [{}, {"command": (), "secrets": ("LICENCE_KEY",)}], ids=["plain", "with secrets"])
def test_an_image_that_somebody_removes_between_launches_ends_the_study(
    tmp_path: Path, client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    """Else every configuration from there on would fail for it."""
    image = "tune-test-removed:1"
    monkeypatch.setenv("LICENCE_KEY", "very-secret-4711")
    client.images.build(fileobj=io.BytesIO(f"FROM {IMAGE}\nLABEL test=removed\n".encode()), tag=image)
    one = runner(image=image)
    try:
        with one.launch(container(one.place(tmp_path), tmp_path)):
            pass
    finally:
        client.images.remove(image, force=True)
    with pytest.raises(RunnerUnavailable, match=f"somebody removed the image {image}"):
        one.launch(replace(container(one.place(tmp_path), tmp_path), **given)).__enter__()
    assert ours(client) == []


def test_somebody_who_removes_the_container_is_noticed(tmp_path: Path, client: docker.DockerClient) -> None:
    for asked in ("check", "locate", "processes"):
        with pytest.raises(ServerFailed, match="somebody removed"), launched(tmp_path) as found:
            ours(client)[0].remove(force=True)
            if asked == "processes":
                _ = found.processes
            else:
                getattr(found, asked)()


def test_no_engine_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(RunnerUnavailable, match="no Docker engine answers"):
        runner()


def test_a_gpu_goes_to_one_server_at_a_time() -> None:
    devices = NamedDevices({"A100/1g.10gb": ("MIG-1", "MIG-2"), "T4": ("0",)})
    assert "names no device" in str(devices.refuses(Resources(gpu_type="L4")))
    assert "T4" in str(devices.refuses(Resources(gpu_type="L4")))
    assert devices.refuses(Resources(gpu_type="T4", gpu_memory="8Gi")) is None
    slice_ = Resources(gpu_type="A100", gpu_memory="1g.10gb")
    looks: list[object] = []
    with devices.take(slice_, lambda: None) as first, devices.take(slice_, lambda: None) as second:
        assert {*first, *second} == {"MIG-1", "MIG-2"}

        def wait() -> None:
            with devices.take(slice_, lambda: looks.append(1)) as third:
                looks.append(third)

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.6)
        assert len(looks) > 0
        assert set(looks) == {1}
    thread.join(5)
    assert looks[-1] in (("MIG-1",), ("MIG-2",))


def test_services_of_one_trial_share_a_gpu_where_they_ask_for_shares() -> None:
    devices = NamedDevices({"T4": ("0", "1"), "A100": ("2",)})
    half, whole = Resources(gpu_type="T4", gpu_memory="50%"), Resources(gpu_type="A100")
    with (
        devices.take(half, lambda: None, "s/0001") as first,
        devices.take(half, lambda: None, "s/0001") as second,
        devices.take(half, lambda: None, "s/0002") as other,
    ):
        assert first == second
        assert other != first, "another trial gets another device"
    with (
        devices.take(whole, lambda: None, "s/0001"),
        pytest.raises(Infeasible, match="finds no room on the GPU A100 beside"),
        devices.take(whole, lambda: None, "s/0001"),
    ):
        pass
    most, one = Resources(gpu_type="T4", gpu_memory="75%"), Resources(gpu_type="T4")
    with devices.take(most, lambda: None, "g") as first, devices.take(most, lambda: None, "g") as second:
        assert first != second, "three quarters twice are more than one"
    with devices.take(one, lambda: None, "g") as first, devices.take(half, lambda: None, "g") as second:
        assert first != second, "a whole one is not shared"
    with devices.take(whole, lambda: None, "s/0001") as again:
        assert again == ("2",)


def test_statistics_of_both_cgroup_versions() -> None:
    one = {
        "cpu_stats": {
            "cpu_usage": {"total_usage": 2_500_000_000},
            "throttling_data": {"periods": 10, "throttled_periods": 4},
        },
        "memory_stats": {"usage": 100 * MIB, "stats": {"total_inactive_file": 30 * MIB}},
        "pids_stats": {"current": 3},
    }
    sample = as_sample(one, 1.0)
    assert sample is not None
    assert (sample.cpu_s, sample.memory_bytes, sample.processes, sample.throttled) == (2.5, 70 * MIB, 3, 4)
    two = one | {"memory_stats": {"usage": 100 * MIB, "stats": {"inactive_file": 10 * MIB}}}
    assert as_sample(two, 1.0).memory_bytes == 90 * MIB  # type: ignore[union-attr]
    assert as_sample({"cpu_stats": {}, "memory_stats": {}}, 1.0) is None
