"""What happens around the tuner: to its servers, their engine, the cluster, the disk, and other runs beside it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Callable

import psutil

from benchmarks.faults.strikes import at_random
from benchmarks.faults.study import COMPLETE, Run

MODES = ("fill-disk", "eat-memory", "flood-log", "endless-headers", "changing-answers", "scatter")
_MEMORY = "cpu_cores: [1], memory: [256Mi]"
_LOG_BYTES = 64 << 20
_AWAY_S = 20
_UNFIT = 4  # the exit code where the environment cannot run it


def misbehaving(mode: str) -> Callable[[Run], bool]:
    """A server that does so, in every trial; the run ends by itself, and has a finished trial for each. Where no disk
    is left, not even the study can be kept: then there is nothing to go on with.
    """

    def strike(run: Run) -> bool:
        if mode == "fill-disk":
            _mounted(run, "8m")
        spec = run.folder / "spec.yaml"
        text = spec.read_text(encoding="utf-8").replace("children-at-work", mode).replace("cpu_cores: [1]", _MEMORY)
        spec.write_text(text.replace('"{service_ms}"]', '"{service_ms}", --fill, "{cache_dir}"]'), encoding="utf-8")
        done = run.again()
        allowed = COMPLETE if mode != "fill-disk" else (*COMPLETE, _UNFIT)
        assert done.returncode in allowed, f"{mode}: exit code {done.returncode}: {done.stderr[-300:]}"
        for log in run.output.rglob("server.log"):
            assert log.stat().st_size < _LOG_BYTES, f"{log} has {log.stat().st_size} bytes"
        for filler in run.output.rglob("filler"):
            filler.unlink()
        return mode != "fill-disk"

    return strike


def two_in_one_folder(run: Run) -> None:
    """A second run in the same folder, and a third that would go on with it: refused, and the first is not troubled."""
    process = run.start("launch")
    process.send_signal(signal.SIGSTOP)  # lest it ends before the others have begun
    try:
        for more in ((), ("--resume",)):
            done = run.again(*more)
            assert done.returncode in (2, 4), f"the second run ended with {done.returncode}: {done.stderr[-300:]}"
    finally:
        process.send_signal(signal.SIGCONT)
    _ends_well(run, process)


def two_of_one_spec(run: Run) -> None:
    """Another run of the same spec, in a folder of its own: neither troubles the other."""
    folder = run.folder / "other"
    folder.mkdir()
    other = Run(folder, run.runner, run.whole_s, name=run.name)
    processes = [(one, one.begin()) for one in (run, other)]
    for one, process in processes:
        _ends_well(one, process)
    assert len(other.finished()) == len(run.finished()), f"one has {run.finished()}, the other {other.finished()}"


def cleaned_meanwhile(run: Run) -> None:
    """`tune clean`, again and again, while the study runs: it leaves it alone."""
    process = run.start("launch")
    while process.poll() is None:
        cleaned = run.tune("clean")
        assert cleaned.stdout.strip() == "nothing was left behind", f"tune clean: {cleaned.stdout} {cleaned.stderr}"
    _ends_well(run, process)
    assert not run.failed(), run.failed()


def _ends_well(run: Run, process: subprocess.Popen[bytes]) -> None:
    code = run.end(process)
    assert code in COMPLETE, f"the run ended with {code}: {run.said()[-300:]}"


def deleted(run: Run) -> None:
    """Somebody deletes all servers of the study, at a random moment; the run goes on by itself."""
    process = at_random(run)
    if run.runner == "docker":
        subprocess.run(["docker", "rm", "-f", *run.launched()], capture_output=True, check=False)
    else:
        subprocess.run(["kubectl", "delete", "pods", "-l", run.label], capture_output=True, check=True)
    _ends_well(run, process)


def evicted(run: Run) -> None:
    """The cluster evicts the study's pods, at a random moment; the run goes on by itself."""
    process = at_random(run)
    for name in _said("kubectl", "get", "pods", "-l", run.label, "-o", "name"):
        pod = name.removeprefix("pod/")
        body = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": pod, "namespace": "default"}}
        subprocess.run(
            ["kubectl", "create", "--raw", f"/api/v1/namespaces/default/pods/{pod}/eviction", "-f", "-"],
            input=json.dumps(body), text=True, capture_output=True, check=False,
        )  # fmt: skip
    _ends_well(run, process)


def engine_restarts(run: Run) -> None:
    """Docker's engine ends at a random moment, with all containers, and is there again after two seconds."""
    process = at_random(run)
    engine = _process("dockerd")
    command = engine.cmdline()
    engine.terminate()
    engine.wait(30)
    time.sleep(2)
    _daemon(command, None)
    run.end(process)


def image_vanishes(run: Run) -> None:
    """Somebody removes the study's image as soon as no container uses it; with it the study goes on."""
    image = f"{run.name}:1"
    spec = run.folder / "spec.yaml"
    spec.write_text(spec.read_text(encoding="utf-8").replace("small:1", image), encoding="utf-8")
    _made(image)
    process = run.start("load")
    while _failed("docker", "rmi", image) and process.poll() is None:
        time.sleep(0.01)
    code = run.end(process)
    assert code in (*COMPLETE, _UNFIT), f"exit code {code}: {run.said()[-300:]}"
    assert not run.failed(), f"configurations have the image's fault: {run.failed()}"
    _made(image)


def _made(image: str) -> None:
    """One of its own, which differs from the tests' in its label alone."""
    text = f"FROM small:1\nLABEL faults={image}\n"
    subprocess.run(["docker", "build", "-q", "-t", image, "-"], input=text, text=True, capture_output=True, check=True)


def api_is_down(run: Run) -> None:
    """The API server is killed, and is there again after a while."""
    process = run.start("load")
    server = _process("kube-apiserver")
    command, folder = server.cmdline(), server.cwd()
    server.kill()
    time.sleep(_AWAY_S)
    _daemon(command, folder)
    while _failed("kubectl", "get", "--raw", "/readyz"):
        time.sleep(0.5)
    run.end(process)


def kubelet_stands_still(run: Run) -> None:
    """The node's kubelet does nothing for a while, from a random moment on; the run goes on by itself."""
    process = at_random(run)
    kubelet = _process("kubelet")
    kubelet.suspend()
    try:
        time.sleep(_AWAY_S)
    finally:
        kubelet.resume()
    _ends_well(run, process)


def node_is_cordoned(run: Run) -> None:
    """For a while the node takes no pod."""
    [node] = _said("kubectl", "get", "nodes", "-o", "name")
    process = run.start("load")
    subprocess.run(["kubectl", "cordon", node], capture_output=True, check=True)
    time.sleep(15)
    subprocess.run(["kubectl", "uncordon", node], capture_output=True, check=True)
    run.end(process)


def image_is_missing(run: Run) -> None:
    """The study is interrupted, and another one of an image that nobody has ends with what to do."""
    process = run.start("load")
    process.send_signal(signal.SIGINT)
    run.end(process)
    spec = run.folder / "spec.yaml"
    text = spec.read_text(encoding="utf-8")
    spec.write_text(text.replace("small:1", "localhost:1/none:1"), encoding="utf-8")
    done = run.again("--output", str(run.folder / "none"))
    assert done.returncode == _UNFIT, f"exit code {done.returncode}: {done.stderr[-300:]}"
    spec.write_text(text, encoding="utf-8")


def disk_is_full(run: Run) -> None:
    """Nothing more can be written to the study's folder, until the run has ended."""
    _mounted(run, "4m")
    process = run.start("load")
    filler = run.output / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(b"x" * 65_536)
            file.flush()
    run.end(process)
    filler.unlink()


def _mounted(run: Run, size: str) -> None:
    run.output.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", run.output], check=True)


def _process(name: str) -> psutil.Process:
    [found] = [one for one in psutil.process_iter(["name"]) if one.info["name"] == name]
    return found


def _daemon(command: list[str], folder: str | None) -> None:
    null = subprocess.DEVNULL
    subprocess.Popen(command, cwd=folder, stdin=null, stdout=null, stderr=null, start_new_session=True)


def _failed(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


def _said(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
