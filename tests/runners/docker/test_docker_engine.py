"""Where the engine is: one that is on another machine is refused, since its containers cannot be loaded from here."""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import requests

from runners import Resources, RunnerUnavailable
from runners.docker.engine import Controller, Engine
from runners.docker.runner import DockerOptions, DockerRunner, _let_read
from tests.conftest import Tune
from tests.runners import support
from tuner import SpecError, load_spec
from tuner.launch.checks.images import check_images

MAKING_S = 1.0


@contextmanager
def engine(name: str, made: list[str] | None = None, **more: Any) -> Iterator[int]:
    """The port of an engine that says of itself what Docker's says, and that it runs on that machine. Of images it has
    `here:1`; the containers that are there stand in `made`, and it takes its time to make one.
    """
    containers = [] if made is None else made

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            about = {"Name": name, "NCPU": 2, "MemTotal": 2**30, **more}
            known = "/images/" not in self.path or self.path.endswith("/images/here:1/json")
            if "/containers/" in self.path:
                known = bool(containers)
            said = about if known else {"message": "No such image"}
            self.say(200 if known else 404, {"ApiVersion": "1.44"} if self.path.endswith("/version") else said)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(MAKING_S)
            containers.append("it")
            self.say(201, {"Id": "it", "Warnings": []})

        def do_DELETE(self) -> None:
            self.say(200 if containers else 404, {"message": "No such container"})
            containers.clear()

        def say(self, status: int, said: Any) -> None:
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def test_an_engine_of_another_machine_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with engine("another-machine") as port:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://0.0.0.0:{port}")  # which leads here, and is no address of here alone
        with pytest.raises(RunnerUnavailable, match=r"the Docker engine is on 0\.0\.0\.0") as refused:
            Engine()
        assert 1 <= len(str(refused.value).splitlines()) <= 3


@pytest.mark.parametrize(("name", "host"), [("a-virtual-machine", "127.0.0.1"), (platform.node(), "0.0.0.0")])
def test_an_engine_that_publishes_ports_here_is_taken(monkeypatch: pytest.MonkeyPatch, name: str, host: str) -> None:
    with engine(name) as port:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://{host}:{port}")
        with closing(Engine()) as found:
            assert found.is_here is (name == platform.node())
            assert found.cores == (0, 1)


def test_an_interrupt_while_the_engine_makes_a_container_leaves_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Removed before it was there, it would have stayed."""
    made: list[str] = []

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with engine(platform.node(), made, Id="sha256:1") as port:
            monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
            with closing(DockerRunner(DockerOptions("here:1"))) as runner, pytest.raises(KeyboardInterrupt):
                threading.Timer(MAKING_S / 2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
                runner.launch(support.container(runner.place(tmp_path), tmp_path, command=("serve",))).__enter__()
            time.sleep(MAKING_S)
            assert made == []
    finally:
        signal.signal(signal.SIGUSR1, before)


def interrupted_at(line: int, ask: Callable[[], object]) -> bool:
    """Whether `ask` is interrupted when that many lines of the module `threading` have run in this thread."""
    left = line

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        nonlocal left
        if frame.f_code.co_filename != threading.__file__:
            return trace
        left -= event == "line"
        if left < 0:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    tracer = sys.gettrace()
    sys.settrace(trace)
    try:
        ask()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(tracer)
    return False


def test_an_interrupt_that_falls_while_the_thread_is_started_waits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have handed the call over by then, or not: then the call is never made."""
    said: list[str] = []

    def make() -> None:
        said.append("begun")
        time.sleep(0.05)
        said.append("ended")

    with engine(platform.node()) as port:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
        with closing(Engine()) as found:
            line = 0
            while interrupted_at(line, lambda: found.ask_whole(make)):
                line += 1
                assert said in ([], ["begun", "ended"]), line
                time.sleep(0.02)
                assert said in ([], ["begun", "ended"]), line
                said.clear()
    assert said == ["begun", "ended"]


def test_an_interrupt_ends_the_tries_to_reach_an_engine_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def make() -> None:
        tries.append(len(tries))
        if len(tries) == 2:
            os.kill(os.getpid(), signal.SIGUSR1)
        raise requests.exceptions.ConnectionError

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with engine(platform.node()) as port:
            monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
            with closing(Engine()) as found, pytest.raises(KeyboardInterrupt):
                found.ask_whole(make)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(tries) < 10, "in a minute there are more than twenty"


SPEC = """\
version: 1
service: {name: embedder, image: "IMAGE", command: [serve]}
request: {json: {text: hello}}
slo: {p99: 50ms}
objective: {maximize: capacity_qps}
space: {parameters: {cpu_cores: [1, 2]}}
runner: {type: docker}
"""


@pytest.mark.parametrize(("image", "lacking"), [("here:1", False), ("elsewhere:1", True)])
def test_validate_says_that_docker_has_no_such_image(
    tmp_path: Path, tune_in_process: Tune, monkeypatch: pytest.MonkeyPatch, image: str, *, lacking: bool
) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC.replace("IMAGE", image), encoding="utf-8")
    with engine(platform.node(), **DOCKER) as port:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
        done = tune_in_process("validate", tmp_path / "spec.yaml")
    assert done.returncode == 0, done.stderr
    assert (f"warning: service.image: Docker has no image {image}, so the first trial waits" in done.stdout) is lacking


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("MyServer:1", "did you mean myserver:1?"),
        ("my server:1", "did you mean my-server:1?"),
        ("team/server:", "did you mean team/server?"),
        ("https://ghcr.io/Team/Server:V1", "did you mean ghcr.io/team/server:V1?"),
        ("team//server", "write it as in registry.example.com/team/server:1.2"),
    ],
)
def test_a_name_that_no_engine_takes_is_refused_where_images_run(
    tmp_path: Path, tune_in_process: Tune, image: str, said: str, kind: str
) -> None:
    text = SPEC.replace("IMAGE", image).replace("type: docker", f"type: {kind}")
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    done = tune_in_process("validate", tmp_path / "spec.yaml")
    assert done.returncode == 2, done.stdout
    assert f"service.image: {image!r} is no name of an image: {said} (" in done.stderr
    assert "spec.yaml:2)" in done.stderr


@pytest.mark.parametrize(
    "image",
    ["server", "Registry.example.com:5000/a_b/c-d__e.f:V1.2", f"localhost/x@sha256:{'a' * 64}", f"sha256:{'a' * 64}",
     "[::1]:5000/x:1", "a" * 64, f"ghcr.io/{'a' * 200}:1@sha256:{'a' * 64}"],
)  # fmt: skip
def test_a_name_that_engines_take_is_not_refused(tmp_path: Path, image: str) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC.replace("IMAGE", image), encoding="utf-8")
    check_images(load_spec(tmp_path / "spec.yaml"))


def test_the_name_of_a_repository_that_is_too_long_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC.replace("IMAGE", f"ghcr.io/{'a' * 256}"), encoding="utf-8")
    with pytest.raises(SpecError, match="its repository has more than 255 characters"):
        check_images(load_spec(tmp_path / "spec.yaml"))


ROOTLESS = {"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]}
BARE = {"CgroupDriver": "none", "MemoryLimit": True}
DOCKER: dict[str, Any] = {"CpuCfsQuota": True, "CPUSet": True, "MemoryLimit": True}
PODMAN = {"BuildahVersion": "1.33.7", "CgroupVersion": "2", "CpuCfsQuota": False, "CPUSet": False, "MemoryLimit": False}


@pytest.mark.parametrize(
    ("said", "controlled"),
    [
        ({}, "cpu cpuset memory"),
        (DOCKER, "cpu cpuset memory"),
        (DOCKER | ROOTLESS | {"CPUSet": False}, "cpu memory"),
        (DOCKER | {"CpuCfsQuota": False, "MemoryLimit": False}, "cpuset"),
        (DOCKER | ROOTLESS | BARE, ""),
        (PODMAN, "cpu cpuset memory"),  # which looks for controllers of version 1
        (PODMAN | ROOTLESS | {"CgroupVersion": "1"}, ""),
    ],
)
def test_an_engine_holds_containers_to_what_it_has_a_controller_for(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, Any], controlled: str
) -> None:
    controllers: tuple[Controller, ...] = ("cpu", "cpuset", "memory")
    with engine(platform.node(), **said) as port:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
        with closing(Engine()) as found:
            assert [one for one in controllers if found.controls(one)] == controlled.split()
            assert found.pins is ("cpuset" in controlled)
            assert found.is_rootless is ("SecurityOptions" in said)
        with closing(DockerRunner(DockerOptions("small:1"))) as runner:
            for name, asked in (("cpu", Resources(cpu_cores=1)), ("memory", Resources(memory_bytes=2**20))):
                refusal = runner.refuses(asked)
                if name in controlled.split():
                    assert refusal is None
                else:
                    assert f"it lacks the cgroup controller {name} (" in str(refusal)
            assert runner.refuses(Resources()) is None


def test_rendered_files_can_be_read_by_whoever_the_image_runs_as(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    (folder / "models").mkdir(parents=True, mode=0o700)
    (folder / "models" / "config.txt").touch(mode=0o600)
    _let_read(folder)
    assert [path.stat().st_mode & 0o777 for path in (folder, folder / "models", folder / "models" / "config.txt")] == [
        0o755, 0o755, 0o644
    ]  # fmt: skip
    _let_read(tmp_path / "none")
