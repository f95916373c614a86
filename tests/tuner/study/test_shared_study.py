"""Several trials at once, and several processes on one study: nothing twice, nothing lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from runners.host.ports import Ports
from tests.conftest import SERVER, Tune, recommendation, tune_command, tune_environment

SPEC = f"""\
version: 1
service:
  name: shared
  command: [{sys.executable}, {SERVER}, --port, "{{port}}", --service-ms, "{{service_ms}}"]
  ready: {{path: /healthz}}
request: {{path: /predict, json: {{}}}}
slo: {{p99: 250ms}}
space: {{parameters: {{cpu_cores: [1], service_ms: {{low: 2, high: 40}}}}}}
prices: {{cpu_core_hour: 0.04}}
load: {{max_trial: 5s, max_warmup: 1s}}
"""
WITHOUT_FINAL = "objective: {minimize: cost_per_million_requests, final: 0%}\n"
BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), Path("/nowhere"))


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory, needs_engine: None) -> Iterator[str]:
    """An empty database of a server of our own."""
    if not (BIN / "initdb").exists():
        if os.environ.get("TUNE_TEST_ENGINES") == "required":
            pytest.fail("PostgreSQL is not installed: apt-get install postgresql", pytrace=False)
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path("/tmp") / f"tune-pg-{os.getpid()}"  # its socket's path must be short, and its user enter it
    folder.mkdir(mode=0o755)
    as_user: list[str | Path] = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres")
    port = Ports().take()
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    made = [*as_user, BIN / "initdb", "-D", folder / "data", "-U", "tune", "-A", "trust"]
    subprocess.run(made, check=True, capture_output=True, cwd=folder)
    control = [*as_user, BIN / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", "-o", options]
    subprocess.run([*control, "start"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    yield f"postgresql://tune@127.0.0.1:{port}/postgres"
    subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd=folder)
    shutil.rmtree(folder)


def trials(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "tuning/shared/trials.csv")


def test_two_trials_at_once_are_all_counted_and_none_twice(tmp_path: Path, tune: Tune) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", 4, "--parallel", 2)
    assert done.returncode == 0, done.stderr
    table = trials(tmp_path)
    assert len(table) == 4
    assert table["service_ms"].nunique() == 4
    assert recommendation(tmp_path / "tuning/shared")["confirmed"]


def test_an_interrupt_ends_all_trials_and_resume_goes_on(tmp_path: Path, tune: Tune) -> None:
    other = SPEC + WITHOUT_FINAL
    begun = other.replace("max_trial: 5s", "max_trial: 6s")
    (tmp_path / "spec.yaml").write_text(begun, encoding="utf-8")
    command = tune_command("--service", "spec.yaml", "--budget", "3", "--parallel", "2", "--json")
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=tune_environment(tmp_path),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as run:
        assert run.stderr is not None
        finished = False  # without a trial that is kept there is nothing to go on with
        for line in run.stderr:
            finished = finished or '"event": "trial",' in line
            if finished and '"phase"' in line and "probe" in line:  # a notice may speak of probes too
                break
        run.send_signal(signal.SIGINT)
        rest = run.stderr.read()
        assert run.wait(30) == 130, rest
    assert "--resume goes on" in rest
    assert not [one for one in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in one.read_bytes()]
    (tmp_path / "spec.yaml").write_text(other, encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", 3, "--parallel", 2, "--resume")
    assert done.returncode == 2  # the load has changed
    (tmp_path / "spec.yaml").write_text(begun, encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", 3, "--parallel", 2, "--resume")
    assert done.returncode == 0, done.stderr
    assert len(trials(tmp_path)) == 3


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_workers_and_one_is_killed(tmp_path: Path, tune: Tune, postgresql: str) -> None:
    name = "shared-by-three"
    text = (
        SPEC.replace("name: shared", f"name: {name}") + "objective: {minimize: cost_per_million_requests, final: 0%}\n"
    )
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    # What the killed worker leaves cannot be judged from outside its namespace: its files go with those of the test.
    environment = tune_environment(tmp_path) | {"TMPDIR": str(tmp_path)}
    common = {"cwd": tmp_path, "env": environment, "stdout": subprocess.DEVNULL, "text": True}
    with (tmp_path / "main.log").open("w") as log:
        main = subprocess.Popen(
            tune_command("--service", "spec.yaml", "--budget", "12", "--storage", postgresql), stderr=log, **common  # type: ignore[call-overload]
        )  # fmt: skip
    while "[ 1/12 done]" not in (tmp_path / "main.log").read_text(encoding="utf-8"):
        assert main.poll() is None
        time.sleep(0.2)
    # As if on another machine: that it is dead is known by its silence alone.
    apart = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"] if os.geteuid() == 0 else []
    workers = []
    for number, before in enumerate(([], apart)):
        words = ("worker", "--storage", postgresql, "--study", name, "--output", f"w{number}", "--json")
        workers.append(subprocess.Popen([*before, *tune_command(*words)], stderr=subprocess.PIPE, **common))  # type: ignore[call-overload]
    try:
        helper, victim = workers
        begun = 0
        for line in victim.stderr:
            begun += "trial_started" in line
            if begun and '"phase"' in line and "probe" in line:  # what ended before a probe speaks of probes, too
                break
        victim.kill()
        assert main.wait(300) in (0, 3), (tmp_path / "main.log").read_text(encoding="utf-8")
        assert helper.wait(30) == 0
    finally:
        for one in (main, *workers):
            one.kill()
            one.communicate()
        tune("clean")
    table = pd.read_csv(tmp_path / f"tuning/{name}/trials.csv")
    assert len(table) == 12
    assert table["service_ms"].nunique() == 12
    numbers = {int(path.name) for path in tmp_path.glob("w0/trials/[0-9]*")}
    assert numbers & set(table["number"]), "the helper has helped"
    lost = {int(path.parent.name) for path in tmp_path.glob("w1/trials/*/server.log")} - set(table["number"])
    assert len(lost) == 1, "the victim's last trial was taken up by another"


def test_a_worker_without_a_study_says_so(tmp_path: Path, tune: Tune, postgresql: str) -> None:
    done = tune("worker", "--storage", postgresql, "--study", "none-such")
    assert done.returncode == 2
    assert "no study named none-such" in done.stderr
    done = tune("worker", "--storage", "postgresql://tune:hidden@127.0.0.1:1/x")
    assert done.returncode == 4
    assert "hidden" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3
