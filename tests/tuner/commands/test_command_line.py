"""The command line: what wrong input gets, and that nothing ends in a traceback."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from docs import wrong_input
from docs.generate import pages
from tests.conftest import Tune
from tuner.cli import cli
from tuner.spec.reading import load_spec

MINIMAL = """\
version: 1
service: {name: x, command: [python3, server.py, --port, "{port}"]}
slo: {p99: 50ms}
space: {parameters: {cpu_cores: [1]}}
prices: {cpu_core_hour: 0.04}
"""
SLO = "slo: {p99: 50ms}\n"
STREAM = "request: {path: /v1/completions, stream: openai, json: {max_tokens: 128}}\nslo: {ttft: {p99: 300ms}}\n"


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """The script that the specs here name; nothing here gets as far as starting it."""
    path = tmp_path / "server.py"
    path.write_text("", encoding="utf-8")
    return path


@pytest.fixture
def tune(tune_in_process: Tune) -> Tune:
    """No server is launched: nothing here needs a process."""
    return tune_in_process


@pytest.mark.usefixtures("server")
def test_init_writes_a_spec_that_is_valid_but_for_its_server(tmp_path: Path, tune: Tune) -> None:
    assert tune("init").returncode == 0
    done = tune("validate")
    assert done.returncode in (0, 2)  # 2 where no program is named python here: the message says so
    assert done.returncode == 0 or "there is no program" in done.stderr


def test_init_never_overwrites(tmp_path: Path, tune: Tune) -> None:
    (tmp_path / "spec.yaml").write_text("mine", encoding="utf-8")
    done = tune("init")
    assert done.returncode == 2
    assert (tmp_path / "spec.yaml").read_text(encoding="utf-8") == "mine"


def test_init_prints_the_spec_where_its_file_is_standard_output(tmp_path: Path, tune: Tune) -> None:
    printed = tune("init", "-")
    assert (printed.returncode, printed.stderr) == (0, "")
    assert not (tmp_path / "-").exists()
    tune("init", "spec.yaml")
    assert printed.stdout == (tmp_path / "spec.yaml").read_text(encoding="utf-8")


@pytest.mark.usefixtures("server")
def test_validate_says_what_a_preset_is_for(tmp_path: Path, tune: Tune) -> None:
    text = MINIMAL.replace("{parameters: {cpu_cores: [1]}}", "{preset: cpu-serving, parameters: {cpu_cores: [1]}}")
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    done = tune("validate", "spec.yaml")
    assert "\n  preset cpu-serving: A model server on CPU cores, with a thread pool.\n" in done.stdout


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("8", "8 trials, and the best launched again: at most 26 min"),
        ("2h", "47 trials (which 2.0 h suffice for, their servers' start aside), and the best launched again: at most"),
        ("10m", "10 min may be too short for one trial and the launches of the final"),
        ("auto", "100 trials, and the best launched again: at most 4.1 h"),
    ],
)
def test_validate_estimates_for_any_budget(tmp_path: Path, tune: Tune, budget: str, said: str) -> None:
    text = MINIMAL.replace("cpu_cores: [1]", f"cpu_cores: [1], n: {list(range(200))}").replace(
        "--port,", "'{n}', --port,"
    )
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    done = tune("validate", "spec.yaml", "--budget", budget)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("slo", "idle"),
    [
        ("p50: 80ms, p99: 50ms", ["p50 <= 80 ms can never be missed while p99 <= 50 ms is held"]),
        ("p95: 50ms, p99.9: 50ms", ["p95 <= 50 ms can never be missed while p99.9 <= 50 ms"]),
        ("p50: 20ms, p99: 50ms", []),
        ("p99: 50ms, e2e: {p99: 60ms}", ["p99 <= 60 ms can never be missed while p99 <= 50 ms"]),
        ("p99: 50ms, ttft: {p50: 80ms}", []),
        ("ttft: {p50: 2s, p99: 1s}, tpot: {p90: 20ms, p99: 40ms}", ["p50 to the first token <= 2000 ms"]),
        ("p99: 1s, tokens_per_second: {p50: 20, p99: 30}", ["p50 of tokens per second >= 20 can never"]),
        ("p95: 900ms, goodput: {ttft: 1s, e2e: 800ms, itl: 10ms}, itl: {p90: 20ms}", ["p95 <= 900 ms can never"]),
    ],
)
def test_limits_that_can_never_bind_are_hinted_at(tmp_path: Path, tune: Tune, slo: str, idle: list[str]) -> None:
    text = MINIMAL.replace("{p99: 50ms}", f"{{{slo}}}")
    if "t" in slo.replace("e2e", ""):
        text = text.replace("slo:", "request: {stream: openai, json: {}}\nslo:")
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    done = tune("validate", "spec.yaml")
    assert done.returncode == 0, done.stderr
    hints = [line.removeprefix("hint: slo: ") for line in done.stdout.splitlines() if line.startswith("hint: slo: ")]
    assert len(hints) == len(idle)
    assert all(hint.startswith(text) for hint, text in zip(hints, idle, strict=True))


@pytest.mark.usefixtures("server")
def test_validate_shows_the_space_and_an_estimate(tmp_path: Path, tune: Tune) -> None:
    (tmp_path / "spec.yaml").write_text(MINIMAL, encoding="utf-8")
    done = tune("validate", "spec.yaml")
    assert done.returncode == 0, done.stderr
    assert "1 configuration of 1 parameter\n" in done.stdout
    assert "1 trial (all that can run)" in done.stdout
    assert "at most" in done.stdout
    assert "about $" in done.stdout


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--service", "missing.yaml"), 2, "there is no file missing.yaml"),
        (("--service", "spec.yaml", "--budget", "0"), 2, "--budget"),
        (("--service", "spec.yaml", "--runner", "moon"), 2, "--runner"),
        (("--service", "spec.yaml", "--runner", "replay"), 2, "needs table"),
        (("--budget", "5"), 2, "--service is missing"),
        (("export", "nowhere", "--format", "compose", "--qps", "nan"), 2, "--qps"),
        (("plan", "nowhere", "--qps", "inf"), 2, "--qps"),
        (("frobnicate",), 2, "frobnicate"),
        (("report", "nowhere"), 2, "holds no study.db"),
        (("--service", "spec.yaml", "--storage", "nonsense://x:secret@y"), 4, "cannot use the storage"),
        (("--service", "spec.yaml", "--output", "spec.yaml"), 2, "is a file"),
        (("--service", "spec.yaml", "--output", "/proc/none"), 4, "cannot write to /proc/none"),
    ],
)
def test_wrong_input_gets_a_short_message_and_its_exit_code(
    tmp_path: Path, tune: Tune, arguments: tuple[str, ...], code: int, said: str
) -> None:
    (tmp_path / "spec.yaml").write_text(MINIMAL, encoding="utf-8")
    done = tune(*arguments)
    shown = done.stdout + done.stderr
    assert done.returncode == code, shown
    assert said in shown
    assert "Traceback" not in shown
    assert "secret" not in shown


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ("python3", "no-such-program", 2, "spec.yaml:2"),
        ("server.py", "sever.py", 2, "service.command.1: there is no file sever.py"),
        ("server.py", "-u, -X, dev, sever.py", 2, "service.command.4: there is no file sever.py"),
        ("service: {", "service: {venv: env, ", 2, "service.venv: there is no folder"),
        ("service: {", "service: {venv: ., ", 2, "it has no bin/python"),
        ("{port}", "{prot}", 2, "did you mean {port}?"),
        ("slo: {p99: 50ms}", "slo: {p99: 20s}\nrequest: {timeout: 10s}", 2, "request.timeout: 10 s is shorter"),
        ("slo: {p99: 50ms}", "slo: {p99: 5s}\nload: {max_trial: 4s}", 2, "load.max_trial: 4 s is not longer"),
        ("[1]", "[4096]", 4, "no configuration of the space can run here"),
        ("slo: {p99: 50ms}\n", "", 2, "slo: is missing"),
        ("prices: {cpu_core_hour: 0.04}\n", "", 2, "nothing in the space has a price"),
        ("cpu_cores: [1]", "cpu_cores: [1], reason: [1, 2]", 2, "is a name that the outputs use"),
        ("slo:", "request: {dataset: nothing.jsonl}\nslo:", 2, "no such file"),
        ("service: {", "service: {files: {a.conf: no-such-template}, ", 2, "cannot read the template"),
    ],
)
def test_what_can_be_known_before_the_first_trial_is_said_before_it(
    tmp_path: Path, tune: Tune, old: str, new: str, code: int, said: str
) -> None:
    (tmp_path / "spec.yaml").write_text(MINIMAL.replace(old, new), encoding="utf-8")
    for command in (("--service", "spec.yaml"), ("validate",)):
        done = tune(*command)
        assert done.returncode == code, done.stderr
        assert said in done.stderr
        assert len(done.stderr.splitlines()) <= 3
    assert not (tmp_path / "tuning").exists()


@pytest.mark.parametrize(
    "arguments",
    [("spec.yaml", "--budget", "3"), ("--budget", "3", "spec.yaml"), ("run", "--budget", "3"), ("run", "spec.yaml")],
)
def test_the_main_job_starts_without_its_option(tmp_path: Path, tune: Tune, arguments: tuple[str, ...]) -> None:
    (tmp_path / "spec.yaml").write_text(MINIMAL, encoding="utf-8")
    assert "there is no file server.py" in tune(*arguments).stderr


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("service: {", "service: {image: 'x:1', ", "{host} is in no command, env or file"),
        (
            "slo:",
            "load: {max_trial: 4s}\nslo:",
            "decide: after up to 2 s of warm-up and 2 s of bursts 0 s are left",
        ),
        ("slo:", "load: {max_trial: 15s, max_warmup: 9s}\nslo:", "write 16s or more, or a shorter load.max_warmup\n"),
        ("slo:", "load: {max_trial: 16s}\nslo:", "in 16 s a p99 is decided of servers"),
        ("slo:", "load: {max_trial: 14s}\nslo:", "server under 60 requests/s cannot show its p99"),
        ("p99: 50ms", "p99: 30s", "load.max_trial: 90 s is too short to decide"),
        (
            SLO,
            f"{STREAM}load: {{max_trial: 15s}}\n",
            "streams of up to 128 tokens take up to 2.56 s each (at 50 tokens/s)",
        ),
        (SLO, f"{STREAM}load: {{max_trial: 15s}}\n", "warm-up and bursts of them 15 s; write 41s or more"),
        (SLO, f"{STREAM}load: {{max_warmup: 2s}}\n", "max_warmup: 2 s may be over before an answer is complete"),
        (SLO, f"{STREAM}load: {{max_trial: 8s}}\n", "8 s is too short to decide: after up to 4 s of warm-up"),
        (SLO, f"{STREAM}load: {{max_trial: 16s}}\n", "in 16 s a p99 is decided of servers"),
        (
            SLO,
            STREAM.replace("128", "51200"),
            "warning: request.timeout: 10 s may be over before an answer is complete, which is then an error: streams "
            "of up to 51,200 tokens take up to 1,020 s each (at 50 tokens/s); write 1229s or more\n",
        ),
        ("slo:", "slo:", "request.check is not set"),
    ],
)
def test_validate_says_what_is_probably_not_meant(tmp_path: Path, tune: Tune, old: str, new: str, said: str) -> None:
    (tmp_path / "spec.yaml").write_text(MINIMAL.replace(old, new), encoding="utf-8")
    done = tune("validate")
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_the_page_of_wrong_input_is_what_validate_says(tmp_path: Path, tune: Tune) -> None:
    def validate(_: Path) -> tuple[int, str]:
        done = tune("validate")
        return done.returncode, done.stdout + done.stderr

    assert wrong_input.page(tmp_path, validate) == wrong_input.PAGE.read_text(encoding="utf-8")


def test_the_time_out_follows_the_slowest_limit_unless_it_is_given(tmp_path: Path) -> None:
    def timeout_s(slo: str, request: str = "{}") -> float:
        text = MINIMAL.replace("{p99: 50ms}", slo) + f"request: {request}\n"
        (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
        return load_spec(tmp_path / "spec.yaml").spec.request_timeout_s

    assert timeout_s("{p99: 50ms}") == 10
    assert timeout_s("{p50: 50ms, p99: 30s}") == 60
    assert timeout_s("{p99: 30s}", "{timeout: 31s}") == 31


@pytest.mark.parametrize("arguments", [("--debug", "report", "nowhere"), ("report", "nowhere", "--debug")])
def test_debug_stands_before_a_command_or_after_it(tune_process: Tune, arguments: tuple[str, ...]) -> None:
    assert "Traceback" in tune_process(*arguments).stderr


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(("content", "line"), [("", None), ('{"a": 1}\nnot json\n', 2)])
def test_a_bad_data_set_is_named_with_its_line(tmp_path: Path, tune: Tune, content: str, line: int | None) -> None:
    (tmp_path / "data.jsonl").write_text(content, encoding="utf-8")
    (tmp_path / "spec.yaml").write_text(MINIMAL + "request: {dataset: data.jsonl}\n", encoding="utf-8")
    done = tune("--service", "spec.yaml")
    assert done.returncode == 2
    assert (f"data.jsonl:{line} is not JSON" if line else "is empty") in done.stderr


@pytest.mark.usefixtures("needs_machine")
def test_help_imports_nothing_heavy() -> None:
    code = "import sys, tuner.cli; print([m for m in ('optuna','torch','locust','pandas','numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.usefixtures("needs_machine")
def test_the_tuner_never_imports_the_load_generator() -> None:
    code = "import sys, tuner.commands.run; print([m for m in ('locust', 'gevent', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_generated_pages_are_up_to_date() -> None:
    pinned = (Path(__file__).parents[3] / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not {f"{name}=={version(name)}" for name in ("click", "pydantic")} <= set(pinned):
        pytest.skip("another version of click or pydantic words them otherwise than the one in constraints.txt")
    for path, text in pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: run `make docs`"


def test_a_shell_is_told_how_to_complete(tmp_path: Path, tune_process: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert "_TUNE_COMPLETE=bash_complete" in tune_process("completion", "bash").stdout
    assert tune_process("completion", "bash", "--install").returncode == 0
    script = tmp_path / "data" / "bash-completion" / "completions" / "tune"
    assert script.read_text(encoding="utf-8").strip() == tune_process("completion", "bash").stdout.strip()
    monkeypatch.setenv("_TUNE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "tune val")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert tune_process().stdout.split() == ["plain,validate"]


@pytest.mark.usefixtures("server")
def test_metrics_are_served_where_it_is_said_and_a_host_that_is_not_ours_is_an_error(
    tmp_path: Path, tune: Tune
) -> None:
    (tmp_path / "spec.yaml").write_text(MINIMAL, encoding="utf-8")
    done = tune("spec.yaml", "--metrics-port", 9999, "--metrics-host", "192.0.2.1")
    assert done.returncode == 4
    assert "cannot serve metrics on 192.0.2.1:9999" in done.stderr


def test_the_demo_replays_what_was_measured_on_a_gpu(tmp_path: Path, tune: Tune) -> None:
    assert tune("demo").returncode == 2
    done = tune("demo", "--replay", "--budget", 6)
    assert done.returncode == 0, done.stderr
    assert "NVIDIA H100" in done.stderr
    assert "Recommended: gpu_share=" in done.stdout
    assert "Of 80 configurations 6 were tried; the best of the others is expected to be better by " in done.stdout
    assert (tmp_path / "tuning" / "demo" / "report.html").is_file()
    root = Path(__file__).parents[3]
    shipped, published = root / "tuner/demo/h100-vision.csv", root / "docs/gpu-h100/gpu-vision.csv"
    assert shipped.read_bytes() == published.read_bytes()
    assert "2 trials to go" in tune("demo", "--replay", "--budget", 8, "--resume").stderr


def test_the_help_of_every_command_is_whole_at_80_columns() -> None:
    page = CliRunner().invoke(cli, ["--help"], terminal_width=80).output
    for name, command in cli.commands.items():
        sentence = str(command.help).splitlines()[0].removesuffix(".")
        assert re.search(rf"^  {name} +{re.escape(sentence)}\.$", page, re.MULTILINE), name


def test_a_closed_standard_stream_is_no_error() -> None:
    closed = ("sh", "-c", 'exec "$@" >&- 2>&-', "sh", sys.executable, "-m", "tuner.cli", "schema")
    assert subprocess.run(closed, check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--budget", "20", "run", "spec.yaml"), "--budget has to stand behind the command: tune run --budget ..."),
        (("--runner", "docker", "validate"), "--runner has to stand behind the command: tune validate --runner ..."),
        (("--service", "spec.yaml", "report", "out"), "--service is the main job's; it does not go with report."),
    ],
)
def test_an_option_before_a_command_that_would_not_hear_of_it_is_refused(
    tune: Tune, arguments: tuple[str, ...], said: str
) -> None:
    done = tune(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
