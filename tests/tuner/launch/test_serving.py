"""Specs with `server: NAME`: what is known to be wrong before the first launch, and what follows from the adapter."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from runners import Placement
from tests.conftest import Tune
from tuner.errors import SpecError
from tuner.launch.adapter import image_of, serving
from tuner.launch.checks.before_launch import check, warnings
from tuner.launch.price import price_of
from tuner.launch.render import live_parameters, ready_path, rendered_texts
from tuner.launch.requests import request_source
from tuner.spec.reading import LoadedSpec, load_spec

SPACE = "space: {parameters: {cpu_cores: [1], NAME: [1, 2]}}\n"
HERE = Placement("127.0.0.1", 8123, "/f", (8124, 8125), "/s")
SPEC = """\
version: 1
service: {name: digits, server: SERVER, model: MODEL}
slo: {p99: 50ms}
prices: {cpu_core_hour: 0.04}
"""


def load(folder: Path, server: str, model: str = "{path: models}", more: str = "") -> LoadedSpec:
    (folder / "models" / "digits" / "1").mkdir(parents=True, exist_ok=True)
    settings = folder / "models" / "digits" / "model-settings.json"
    settings.write_text('{"name": "digits"}', encoding="utf-8")
    text = SPEC.replace("SERVER", server).replace("MODEL", model) + more
    (folder / "spec.yaml").write_text(text, encoding="utf-8")
    return load_spec(folder / "spec.yaml")


def environment(folder: Path, package: str, version: str, program: str) -> None:
    """A virtual environment in which that version of a package is installed, as pip writes it down."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    (packages,) = (folder / "env").glob("lib/python3*/site-packages")
    info = packages / f"{package}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n", encoding="utf-8")
    path = folder / "env" / "bin" / program
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(0o755)


def test_a_name_and_a_model_suffice(tmp_path: Path) -> None:
    loaded = load(tmp_path, "triton")
    assert {"cpu_cores", "batch_size", "batch_delay", "instances", "threads"} == set(loaded.space.names)
    assert live_parameters(loaded) == {"batch_size", "batch_delay", "instances"}
    assert ready_path(loaded) == "/v2/models/digits/ready"
    source = request_source(loaded)
    assert (source.method, source.path, source.described) == ("POST", "/v2/models/digits/infer", False)
    texts = rendered_texts(loaded, next(iter(loaded.space)), HERE)
    assert texts.command[0] == "tritonserver"
    assert str(tmp_path / "models") in texts.command


def test_what_the_spec_writes_goes_before_the_adapter(tmp_path: Path) -> None:
    more = "request: {path: /mine, json: {x: 1}}\n"
    more += "space: {parameters: {cpu_cores: [1], delay: {choices: [1ms], role: batch_delay}}}\n"
    loaded = load(tmp_path, "mlserver", more=more)
    found = serving(loaded)
    assert found is not None
    assert found.values({"cpu_cores": 1, "delay": "1ms"}) == {"batch_delay": 1.0}
    assert request_source(loaded).path == "/mine"
    own = "{name: digits, server: mlserver, model: {path: models}, command: [mine, serve], env: {MLSERVER_HOST: here}}"
    text = SPEC.replace("{name: digits, server: SERVER, model: MODEL}", own) + more
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    texts = rendered_texts(load_spec(tmp_path / "own.yaml"), {"cpu_cores": 1, "delay": "1ms"}, HERE)
    assert texts.command == ("mine", "serve")
    assert (texts.env["MLSERVER_HOST"], texts.env["MLSERVER_HTTP_PORT"]) == ("here", "8123")


@pytest.mark.parametrize(
    ("server", "model", "more", "said"),
    [
        ("tritno", "{path: models}", "", "service.server: no server is named 'tritno'; did you mean triton?"),
        ("triton", "{path: models, name: digit}", "", "holds no model digit; it holds digits"),
        ("triton", "{path: nowhere}", "", "holds no model digits; it holds none"),
        ("triton", "{name: digits}", "", "service.model: needs path: the model repository"),
        ("mlserver", "{path: models, name: other}", "", "holds no model other; it holds digits"),
        ("torchserve", "{path: models}", "", "is no model archive (.mar)"),
        ("litserve", "{path: api}", "", "names no class; write module:name"),
        (
            "triton",
            "{path: models}",
            "space: {parameters: {cpu_cores: [1], batchsize: [1, 2]}}\n",
            "did you mean batch_size?",
        ),
        (
            "triton",
            "{path: models}",
            "space: {parameters: {cpu_cores: [1], colour: [1, 2]}}\n",
            "Triton has no knob colour; it has",
        ),
        ("fastapi", "{path: 'app:app'}", "", "FastAPI does not say what its models take; write request"),
        ("triton", "{path: models, inputs: {x: {datatype: FLOAT, shape: [1]}}}", "", "service.model.inputs.x.datatype"),
    ],
)
def test_what_can_be_known_is_said_before_the_first_launch(
    tmp_path: Path, server: str, model: str, more: str, said: str
) -> None:
    with pytest.raises(SpecError) as caught:
        check(load(tmp_path, server, model, more))
    assert said in str(caught.value)
    assert "spec.yaml:" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("server", "space", "said"),
    [
        ("vllm", "compile: [inductor, none]", "'inductor' is neither true nor false"),
        ("bentoml", "max_concurrency: [16, none]", "'none' is not a whole number"),
        ("bentoml", "batch_delay: [auto, 5ms]", "spec.yaml"),
    ],
)
def test_every_choice_is_tried_before_the_first_launch(tmp_path: Path, server: str, space: str, said: str) -> None:
    more = f"space: {{parameters: {{cpu_cores: [1], {space}}}}}\nrequest: {{json: {{}}}}\n"
    with pytest.raises(SpecError, match=said) as caught:
        check(load(tmp_path, server, "{path: 'a:B'}", more))
    assert space.split(":", maxsplit=1)[0] in str(caught.value)


def test_shares_and_durations_reach_a_server_as_numbers(tmp_path: Path) -> None:
    more = "space: {parameters: {cpu_cores: [1], gpu_memory_share: ['50%', '90%']}}\n"
    found = serving(load(tmp_path, "vllm", "{path: m}", more))
    assert found is not None
    assert found.values({"cpu_cores": 1, "gpu_memory_share": "50%"}) == {"gpu_memory_share": 0.5}
    more = "space: {parameters: {cpu_cores: [1], batch_delay: [5ms, 500us]}}\n"
    loaded = load(tmp_path, "fastapi", "{path: 'a:B'}", more)
    texts = [rendered_texts(loaded, {"cpu_cores": 1, "batch_delay": delay}, HERE) for delay in ("5ms", "500us")]
    assert [one.env["BATCH_DELAY_MS"] for one in texts] == ["5", "0.5"]


def test_a_slice_of_a_gpu_is_none_of_a_process(tmp_path: Path) -> None:
    more = "space: {parameters: {gpu_type: [T4], gpu_memory: ['25%', '100%'], threads: [1]}}\n"
    load(tmp_path, "triton", more=more)
    text = (tmp_path / "spec.yaml").read_text(encoding="utf-8").replace("cpu_core_hour: 0.04", "gpu_hour: {T4: 1}")
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    loaded = load_spec(tmp_path / "spec.yaml")
    with pytest.raises(SpecError, match="a process gets whole GPUs, so 25% of one would be measured as all of it"):
        check(loaded)
    check(loaded.with_runner("docker"))


@pytest.mark.usefixtures("needs_machine")
def test_another_flavour_of_a_package_is_the_server_too(tmp_path: Path) -> None:
    environment(tmp_path, "onnxruntime_gpu", "1.20.0", "uvicorn")
    load(tmp_path, "onnxruntime")
    text = SPEC.replace("server: SERVER, model: MODEL", "server: onnxruntime, venv: env, model: {path: 'app:app'}")
    (tmp_path / "gpu.yaml").write_text(text + "request: {json: {}}\n", encoding="utf-8")
    check(load_spec(tmp_path / "gpu.yaml"))


def test_an_image_that_is_built_has_a_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n", encoding="utf-8")
    loaded = load(tmp_path, "triton", more="runner: {type: docker, docker: {build: .}}\n")
    assert image_of(loaded) == "tune-digits"


def test_what_is_exported_after_a_process_run_is_a_containers(
    tmp_path: Path, tune_in_process: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "env" / "bin").mkdir(parents=True)
    load(tmp_path, "mlserver")
    spec = SPEC.replace("server: SERVER, model: MODEL", "server: mlserver, venv: env, model: {path: models}")
    spec += "runner: {type: replay, table: table.csv}\n"
    spec += "space: {parameters: {cpu_cores: [1], workers: [1, 2], batch_size: [4], batch_delay: [0]}}\n"
    (tmp_path / "spec.yaml").write_text(spec, encoding="utf-8")
    lines = "cpu_cores,workers,batch_size,batch_delay,capacity_qps\n1,1,4,0,10\n1,2,4,0,20\n"
    (tmp_path / "table.csv").write_text(lines, encoding="utf-8")
    assert tune_in_process("--service", "spec.yaml", "--budget", 2).returncode == 0
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    text = tune_in_process("export", "tuning/digits", "--format", "kubernetes").stdout
    assert "seldonio/mlserver:1.7.1" in text
    assert "/mnt/models/models" in text
    assert "the model models has to be at /mnt/models/models" in text
    assert "VIRTUAL_ENV" not in text
    assert "name: PATH" not in text
    assert str(tmp_path) not in text
    settings = tune_in_process("export", "tuning/digits", "--format", "mlserver").stdout
    assert '"max_batch_time": 0.0001' in settings


@pytest.mark.usefixtures("needs_machine")
def test_a_version_without_a_knob_and_a_missing_package_are_said(tmp_path: Path) -> None:
    environment(tmp_path, "mlserver", "0.5.2", "mlserver")
    old = SPEC.replace("server: SERVER, model: MODEL", "server: mlserver, venv: env, model: {path: models}")
    load(tmp_path, "mlserver")
    (tmp_path / "old.yaml").write_text(old, encoding="utf-8")
    with pytest.raises(SpecError, match=r"MLServer 0\.5\.2 has no batch_size; it needs 1\.0"):
        check(load_spec(tmp_path / "old.yaml"))
    (tmp_path / "old.yaml").write_text(old.replace("mlserver", "litserve").replace("models", "'a:B'"), encoding="utf-8")
    with pytest.raises(SpecError, match=r"LitServe is not installed in .*env: .*pip install litserve"):
        check(load_spec(tmp_path / "old.yaml"))
    (tmp_path / "old.yaml").write_text(old.replace("env,", "none,"), encoding="utf-8")
    with pytest.raises(SpecError, match="there is no environment"):
        check(load_spec(tmp_path / "old.yaml"))


@pytest.mark.usefixtures("needs_machine")
def test_a_secret_that_is_not_set_is_said_and_one_that_is_shows_nowhere(
    tmp_path: Path, tune_in_process: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, http.server as h; os.environ['LICENCE_KEY']\n"
        "h.test(h.SimpleHTTPRequestHandler, port=int(os.environ['PORT']), bind='127.0.0.1')"
    )
    spec = {
        "version": 1,
        "service": {
            "name": "licensed", "command": [sys.executable, "-c", code], "env": {"PORT": "{port}"},
            "secrets": ["LICENCE_KEY"],
        },
        "request": {"method": "GET", "path": "/"}, "slo": {"p99": "500ms"}, "objective": {"maximize": "capacity_qps"},
        "space": {"parameters": {"cpu_cores": [1]}}, "load": {"max_trial": "4s", "max_warmup": "1s"},
    }  # fmt: skip
    (tmp_path / "spec.yaml").write_text(json.dumps(spec), encoding="utf-8")
    done = tune_in_process("--service", "spec.yaml", "--budget", 1)
    assert done.returncode == 2
    assert done.stderr.startswith("tune: service.secrets.0: the server needs LICENCE_KEY, which is not set")
    monkeypatch.setenv("LICENCE_KEY", "very-secret-4711")
    done = tune_in_process("--service", "spec.yaml", "--budget", 1)
    assert done.returncode in (0, 3), done.stderr
    [trial] = tmp_path.glob("tuning/licensed/trials/0000/trial.json")
    assert json.loads(trial.read_text(encoding="utf-8"))["launch_s"] is not None, "it had its key"
    written = [path for path in tmp_path.glob("tuning/**/*") if path.is_file()]
    assert not [path for path in written if b"very-secret-4711" in path.read_bytes()]


@pytest.mark.usefixtures("needs_machine")
def test_a_port_that_is_taken_is_said(tmp_path: Path, tune_in_process: Tune) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code = f"import http.server as h; h.test(h.SimpleHTTPRequestHandler, port={port}, bind='127.0.0.1')"
        spec = {
            "version": 1, "service": {"name": "fixed", "command": [sys.executable, "-c", code, "{port}"]},
            "request": {"method": "GET", "path": "/"}, "slo": {"p99": "500ms"},
            "objective": {"maximize": "capacity_qps"}, "space": {"parameters": {"cpu_cores": [1]}},
        }  # fmt: skip
        (tmp_path / "spec.yaml").write_text(json.dumps(spec), encoding="utf-8")
        done = tune_in_process("--service", "spec.yaml", "--budget", 1)
    assert done.returncode == 3
    [trial] = tmp_path.glob("tuning/fixed/trials/0000/trial.json")
    reason = json.loads(trial.read_text(encoding="utf-8"))["reason"]
    assert "Address already in use" in reason


def test_an_archive_for_torchserve_is_known_by_its_manifest(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "digits.mar", "w") as made:
        made.writestr("MAR-INF/MANIFEST.json", '{"model": {"modelName": "digits", "modelVersion": "1.0"}}')
    loaded = load(tmp_path, "torchserve", "{path: digits.mar}", "request: {json: {x: 1}}\n")
    found = serving(loaded)
    assert found is not None
    found.adapter.check(found.model, {"batch_size": 4})
    assert request_source(loaded).described
    assert request_source(loaded).path == "/predictions/digits"


@pytest.mark.usefixtures("needs_machine")
def test_a_service_that_never_serves_is_given_up_after_a_few_trials(tmp_path: Path, tune_in_process: Tune) -> None:
    program = "import os, time; exit(f'{time.ctime()} pid={os.getpid()} ERROR: no model')"
    spec = {
        "version": 1, "service": {"name": "broken", "command": [sys.executable, "-c", program, "{port}"]},
        "request": {"method": "GET", "path": "/"}, "slo": {"p99": "500ms"}, "objective": {"maximize": "capacity_qps"},
        "space": {"parameters": {"cpu_cores": [1], "size": {"low": 1, "high": 20}}},
    }  # fmt: skip
    (tmp_path / "spec.yaml").write_text(json.dumps(spec), encoding="utf-8")
    done = tune_in_process("--service", "spec.yaml", "--budget", 12)
    assert done.returncode == 3
    assert (
        "Stopped after 5 trials: no server served, and all failed alike: the server exited with code 1" in done.stderr
    )
    assert len(list(tmp_path.glob("tuning/broken/trials/*"))) == 5
    assert "5 of 5, for example: the server exited with code 1" in done.stdout
    assert tune_in_process("--service", "spec.yaml", "--budget", 12, "--resume").returncode == 3
    assert len(list(tmp_path.glob("tuning/broken/trials/*"))) == 10, "it might have been mended meanwhile"


ANSWERS_422 = """\
import http.server, sys
class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(422)
        self.end_headers()
        self.wfile.write(b"unknown field `output`")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Server).serve_forever()
"""


@pytest.mark.usefixtures("needs_machine")
def test_a_word_that_a_server_puts_in_backticks_is_not_taken_for_an_option(
    tmp_path: Path, tune_in_process: Tune
) -> None:
    spec = {
        "version": 1,
        "service": {
            "name": "strict", "command": [sys.executable, "-c", ANSWERS_422, "{port}"], "ready": {"timeout": "1s"},
        },
        "request": {"method": "GET", "path": "/"}, "slo": {"p99": "500ms"}, "objective": {"maximize": "capacity_qps"},
        "space": {"parameters": {"size": [1]}},
    }  # fmt: skip
    (tmp_path / "spec.yaml").write_text(json.dumps(spec), encoding="utf-8")
    done = tune_in_process("--service", "spec.yaml", "--budget", 1)
    trial = json.loads((tmp_path / "tuning/strict/trials/0000/trial.json").read_text(encoding="utf-8"))
    assert "unknown field `output`" in trial["reason"]
    assert "unknown field `output`" in done.stderr, "as it was said, where the trial's reason is shown"
    assert "unknown field 'output'" in done.stdout, "in a sentence of ours, where backticks name an option"
    report = (tmp_path / "tuning/strict/report.md").read_text(encoding="utf-8")
    assert "--output" not in done.stdout + done.stderr + report


@pytest.mark.parametrize(
    ("server", "gpus", "names"),
    [
        ("tei", "gpu_type: [L4]", "name ghcr.io/huggingface/text-embeddings-inference:89-1.8"),
        (
            "tei",
            "gpu_type: [T4, H100]",
            "turing-1.8 (T4) or ghcr.io/huggingface/text-embeddings-inference:hopper-1.8 (H100, H200), each",
        ),
        ("tei", "gpus: {choices: [1, 2], role: gpus}", "turing-1.8 (T4) or "),
        ("tei", "gpu_type: [A100-80GB]", "name ghcr.io/huggingface/text-embeddings-inference:1.8"),
        ("tei", "gpu_type: [none, L4]", None),
        ("tei", "workers: [1, 2]", None),
        ("vllm", "gpu_type: [L4]", None),
    ],
)
def test_an_image_that_cannot_use_the_gpus_is_warned_of(
    tmp_path: Path, server: str, gpus: str, names: str | None
) -> None:
    loaded = load(tmp_path, server, "{path: org/embedder}", f"space: {{parameters: {{{gpus}}}}}\n")
    said = [text for text in warnings(loaded) if text.startswith("service.image: ")]
    assert len(said) == (names is not None)
    assert names is None or names in said[0]
    named = load(tmp_path, f"{server}, image: 'mine:1'", "{path: org/embedder}", f"space: {{parameters: {{{gpus}}}}}\n")
    assert not [text for text in warnings(named) if text.startswith("service.image: ")]


PARALLEL = "space: {parameters: {gpu_type: [H100], SPACE}}\n"


@pytest.mark.parametrize("server", ["vllm", "sglang"])
def test_a_parallel_knob_without_a_number_of_gpus_is_refused(tmp_path: Path, server: str) -> None:
    for knob in ("tensor_parallel", "pipeline_parallel", "data_parallel"):
        loaded = load(tmp_path, server, more=PARALLEL.replace("SPACE", f"{knob}: [1, 4]"))
        with pytest.raises(SpecError, match=f"{knob}: takes up to 4 GPUs, and no parameter says how many"):
            check(loaded, table_has_prices=True)
    one = load(tmp_path, server, more=PARALLEL.replace("SPACE", "tensor_parallel: [1]"))
    if server == "sglang":  # which is started as `python3 -m sglang`, so that nothing else is wrong here
        check(one, table_has_prices=True)


@pytest.mark.parametrize(("server", "knob"), [("tensorrt-llm", "pipeline_parallel"), ("lmdeploy", "tensor_parallel")])
def test_so_it_is_of_the_other_engines(tmp_path: Path, server: str, knob: str) -> None:
    with pytest.raises(SpecError, match=f"{knob}: takes up to 4 GPUs"):
        check(load(tmp_path, server, more=PARALLEL.replace("SPACE", f"{knob}: [1, 4]")), table_has_prices=True)
    loaded = load(tmp_path, server, more=PARALLEL.replace("SPACE", f"gpus: [1, 2, 4, 8], {knob}: [1, 4]"))
    assert [(one["gpus"], one[knob]) for one in loaded.space] == [(1, 1), (4, 4)]


def test_energy_as_an_objective_needs_gpus_whose_power_is_read(tmp_path: Path) -> None:
    aim = "objective: {minimize: energy_per_million_output_tokens}\n"
    with pytest.raises(SpecError, match="energy is that of GPUs, and no parameter is one: add gpus"):
        check(load(tmp_path, "sglang", more=aim + "space: {parameters: {cpu_cores: [1], batch_size: [1, 2]}}\n"))
    on_one = aim + PARALLEL.replace("SPACE", "batch_size: [1, 2]")
    check(load(tmp_path, "sglang", more=on_one))
    with pytest.raises(SpecError, match=r"give its address in runner\.kubernetes\.gpu\.dcgm"):
        check(load(tmp_path, "sglang", more=on_one + "runner: {type: kubernetes}\n"))


def test_prefill_and_decode_apart_are_two_services_behind_a_router(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "x")
    loaded = load_spec(Path(__file__).parents[3] / "examples" / "disaggregated" / "spec.yaml")
    check(loaded)
    assert loaded.chain is not None
    assert loaded.chain.calls["router"] == ("prefill", "decode")
    first = next(iter(loaded.space))
    found = {**first, "prefill_gpus": 1, "decode_gpus": 2}
    assert price_of(loaded, found) == pytest.approx(0.04 * (2 + 4 + 4) + 3.0 * (1 + 2))
    router, _, decode = loaded.services
    reached = {"prefill": "http://10.0.0.2:1", "decode": "http://10.0.0.3:2"}
    words = rendered_texts(router.loaded, router.own(found), HERE, reached).command
    assert words[words.index("--decode") + 1] == "http://10.0.0.3:2"
    command = rendered_texts(decode.loaded, decode.own(found), HERE).command
    assert command[command.index("--tp-size") + 1] == "2"


@pytest.mark.parametrize("server", ["vllm", "sglang"])
def test_as_many_gpus_as_the_parallel_knobs_take(tmp_path: Path, server: str) -> None:
    knobs = "cards: {choices: [1, 2, 4, 8], role: gpus}, tensor_parallel: [1, 2, 4], pipeline_parallel: [1, 2]"
    loaded = load(tmp_path, server, more=PARALLEL.replace("SPACE", knobs))
    found = [(one["cards"], one["tensor_parallel"], one["pipeline_parallel"]) for one in loaded.space]
    assert found == [(1, 1, 1), (2, 1, 2), (2, 2, 1), (4, 2, 2), (4, 4, 1), (8, 4, 2)]
    texts = rendered_texts(loaded, next(one for one in loaded.space if one["cards"] == 8), HERE)
    assert "4 2" in " ".join(word for word in texts.command if word.isdecimal())
    own = load(
        tmp_path, server, more=PARALLEL.replace("SPACE", knobs),
        model='{path: models}, command: [serve, "{cards}", "{tensor_parallel}", "{pipeline_parallel}"]',
    )  # fmt: skip
    assert own.space.size.count == 24, "a command of the spec's own knows what it does"
