"""The spec's `request:` and `load:` sections, from the file to the server."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.conftest import Tune, recommendation
from tuner.errors import SpecError
from tuner.launch.checks.before_launch import check, warnings
from tuner.launch.requests import request_source
from tuner.spec.reading import load_spec

SERVER = Path(__file__).parent.parent.parent / "loadtest" / "api_server.py"
SPEC = f"""\
version: 1
service:
  name: api
  command: [{sys.executable}, {SERVER}, --port, "{{port}}", ARGUMENTS]
request: {{REQUEST}}
slo: {{p99: 400ms}}
space: {{parameters: {{cpu_cores: [1]}}}}
prices: {{cpu_core_hour: 0.04}}
load: {{max_trial: 6s, max_warmup: 2s}}
objective: {{minimize: cost_per_million_requests, final: 0%}}
"""


@pytest.fixture
def tune(tune_in_process: Tune, needs_machine: None) -> Tune:
    """The servers and the load are processes; that the command line is one is tested elsewhere."""
    return tune_in_process


def write_spec(folder: Path, request: str, arguments: str = "--port, '{port}'", **sections: str) -> Path:
    text = SPEC.replace("REQUEST", request).replace("ARGUMENTS", arguments)
    for name, content in sections.items():
        old = next(line for line in text.splitlines() if line.startswith(f"{name}:"))
        text = text.replace(old, f"{name}: {content}")
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("request_", "sections", "line", "said"),
    [
        ("file: none.png", {}, 5, "request.file"),
        ("dataset: empty", {}, 5, "has no files"),
        ("multipart: {image: {file: none.png}}", {}, 5, "request.multipart"),
        ("multipart: {image: {}}", {}, 5, "needs either text or file"),
        ("file: spec.yaml, body: x", {}, 5, "exclude each other"),
        ("auth: {bearer: NO_SUCH_VARIABLE}", {}, 5, "NO_SUCH_VARIABLE is not set"),
        ("auth: {bearer: 'sk-123'}", {}, 5, "request.auth.bearer"),
        ("auth: {header: X-Key}", {}, 5, "needs one of bearer"),
        ("check: {json: {'$.[': 1}}", {}, 5, "is not a JSON path"),
        ("check: {schema: none.json}", {}, 5, "request.check.schema"),
        ("check: {schema: {type: numbr}}", {}, 5, "request.check.schema.type: not a JSON schema: 'numbr' is no type; "),
        (
            "check: {json: {$.ok: {type: bool}}}",
            {},
            5,
            "request.check.json.$.ok.type: not a JSON schema: 'bool' is no "
            "type; there are array, boolean, integer, null, number, object, string; did you mean boolean?",
        ),
        (
            "check: {schema: {required: outputs}}",
            {},
            5,
            "request.check.schema.required: not a JSON schema: 'outputs' is not of type 'array'",
        ),
        ("check: {schema: wrong.json}", {}, 5, "wrong.json: properties.n.type: not a JSON schema: 'int' is no type"),
        ("check: {status: 99}", {}, 5, "request.check.status"),
        ("check: {status: ok}", {}, 5, "request.check.status: is a status, as in 200, or a list of those, not 'ok'"),
        ("tls: {ca: spec.yaml}", {}, 5, "holds no certificates"),
        ("stream: openai, check: {status: 200}", {}, 5, "exclude each other"),
        (
            "stream: openai, others: [{path: /b, share: 30%, json: {}, check: {status: 200}}]",
            {},
            5,
            "others beside stream are read as streams too",
        ),
        ("others: [{path: /b, share: 30%, json: {}, check: {json: {b: 1}}}]", {}, 5, "'b' is not a JSON path"),
        ("stream: grpc", {}, 5, "request.stream"),
        ("protocol: grpc, headers: {x-trace-bin: 'a*'}", {}, 5, "is bytes to gRPC"),
        ("path: /", {"slo": "{ttft: {p99: 1s}}"}, 6, "need request: {stream: openai}"),
        ("path: /", {"load": "{arrivals: trace}"}, 9, "needs trace"),
        ("path: /", {"load": "{arrivals: trace, trace: none.csv}"}, 9, "load.trace"),
        ("path: /", {"load": "{arrivals: closed}"}, 9, "needs users"),
        ("path: /", {"load": "{users: 5}"}, 9, "users goes with arrivals: closed"),
        (
            "path: /",
            {"load": "{arrivals: bursty, burst: {factor: 20, share: 10%}}"},
            9,
            "must be above 0 and at most 1",
        ),
        ("path: /", {"load": "{locustfile: none.py}"}, 9, "there is no file"),
        ("path: /", {"load": "{workers: 0}"}, 9, "load.workers"),
    ],
)
def test_a_mistake_is_found_before_anything_runs(
    tmp_path: Path, request_: str, sections: dict[str, str], line: int, said: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.json").write_text('{"properties": {"n": {"type": "int"}}}', encoding="utf-8")
    path = write_spec(tmp_path, request_, **sections)
    with pytest.raises(SpecError) as raised:
        request_source(load_spec(path))
    message = str(raised.value)
    assert said in message
    assert 1 <= len(message.splitlines()) <= 3
    if "stream: openai" not in said:  # that one is about two sections
        assert f"spec.yaml:{line}" in message


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ("json: {prompt: a}", ["request.json"]),
        ("json: {prompt: a, stream: true}", []),
        ("dataset: prompts.jsonl", []),
        (
            "json: {prompt: a, stream: true}, others: [{path: /v1/chat/completions, share: 30%, json: {messages: []}}]",
            ["request.others.0.json"],
        ),
    ],
)
def test_a_request_that_asks_for_no_stream_is_named(tmp_path: Path, request_: str, said: list[str]) -> None:
    path = write_spec(tmp_path, f"path: /v1/completions, stream: openai, {request_}")
    found = [text for text in warnings(load_spec(path)) if "write stream: true" in text]
    assert [text.split()[0] for text in found] == said


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (
            "json: {stream: true}, stream: openai, others: [{path: '/v1/embeddings?a=1', share: 30%, json: {}}]",
            r"request\.others\.0\.path: /v1/embeddings\?a=1 does not stream its answers.*spec\.yaml:5",
        ),
        ("path: /v1/rerank, stream: openai", r"request\.stream: /v1/rerank does not stream .*; remove stream"),
    ],
)
def test_what_does_not_stream_is_refused_where_answers_are_read_as_streams(
    tmp_path: Path, request_: str, said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        check(load_spec(write_spec(tmp_path, request_)))


def test_what_is_embedded_beside_what_a_known_server_streams_is_refused(tmp_path: Path) -> None:
    path = write_spec(tmp_path, "others: [{path: /v1/embeddings, share: 30%, json: {}}]")
    text = path.read_text(encoding="utf-8")
    command = next(line for line in text.splitlines() if "command:" in line)
    path.write_text(text.replace(command, "  server: vllm\n  model: {name: a/b}"), encoding="utf-8")
    with pytest.raises(SpecError, match=r"request\.others\.0\.path: /v1/embeddings does not stream .*spec\.yaml:6"):
        check(load_spec(path))


@pytest.mark.parametrize(
    ("request_", "slo", "timeout_s"),
    [
        ("path: /", "{p99: 50ms}", 10),
        ("path: /", "{p99: 30s}", 60),
        ("path: /", "{p50: 8s, p99: 20s}", 40),
        ("stream: openai", "{ttft: {p99: 12s}, itl: {p99: 1s}}", 24),
        ("timeout: 30s", "{p99: 30s}", 30),
        ("timeout: 1s", "{p99: 50ms}", 1),
        ("timeout: 29s", "{p99: 30s}", None),
        ("timeout: 3s", "{p50: 5s}", None),
        ("stream: openai, timeout: 1s", "{ttft: {p99: 2s}}", None),
    ],
)
def test_no_request_is_given_up_while_it_may_be_in_time(
    tmp_path: Path, request_: str, slo: str, timeout_s: float | None
) -> None:
    path = write_spec(tmp_path, request_, slo=slo)
    path.write_text(path.read_text(encoding="utf-8").replace("max_trial: 6s", "max_trial: 90s"), encoding="utf-8")
    loaded = load_spec(path)
    if timeout_s is not None:
        assert loaded.spec.request_timeout_s == timeout_s
        check(loaded)
    else:
        with pytest.raises(SpecError, match=r"request\.timeout: .* shorter than the slowest limit .*spec\.yaml:5"):
            check(loaded)


def test_limits_on_streams_are_limits_on_times(tmp_path: Path) -> None:
    path = write_spec(
        tmp_path, "stream: openai", slo="{p95: 2s, ttft: {p99: 300ms}, itl: {p99: 50ms}, tokens_per_second: {p90: 20}}"
    )
    slo = load_spec(path).spec.slo
    assert slo is not None
    assert [str(limit) for limit in slo.limits] == [
        "p95 <= 2000 ms",
        "p99 to the first token <= 300 ms",
        "p99 between tokens <= 50 ms",
        "p90 of tokens per second >= 20",
    ]


@pytest.mark.alone
def test_a_secret_reaches_the_server_over_tls_and_no_output(
    tmp_path: Path, tune: Tune, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "s3cret-that-nobody-may-see"
    monkeypatch.setenv("API_TOKEN", secret)
    request = f"path: /stream, stream: openai, auth: {{bearer: API_TOKEN}}, tls: {{ca: {certificate}}}"
    # A stream takes 135 ms, so 16 lone ones and the bursts are 4 s before the first probe, more on a busy machine.
    load, slo = "{max_trial: 30s, max_warmup: 2s}", "{ttft: {p99: 300ms}, itl: {p99: 60ms}}"
    write_spec(tmp_path, request, f"--certificate, {certificate}", slo=slo, load=load)
    done = tune("--service", "spec.yaml", "--budget", 1)
    assert secret not in done.stdout + done.stderr
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    assert done.returncode == 0, done.stderr
    assert recommendation(tmp_path / "tuning" / "api")["meets_slo"]
    probes = json.loads((tmp_path / "tuning/api/trials/0000/probes.json").read_text(encoding="utf-8"))["probes"]
    # A probe in which the generator was held up reports no times of tokens.
    slowest = min((one for one in probes if one["streaming"].get("ttft")), key=lambda probe: probe["rate_qps"])
    assert slowest["streaming"]["ttft"]["p50_ms"] == pytest.approx(55, abs=25)
    assert slowest["streaming"]["itl"]["p50_ms"] == pytest.approx(21, abs=8)
    assert slowest["tokens_per_s"] > 5


def test_a_server_that_says_200_with_an_error_inside_does_not_serve(tmp_path: Path, tune: Tune) -> None:
    write_spec(tmp_path, "path: /failed, check: {json: {'$.outputs[0]': {type: object}}}")
    done = tune("--service", "spec.yaml", "--budget", 1)
    assert done.returncode == 3
    reasons = (tmp_path / "tuning/api/trials.csv").read_text(encoding="utf-8")
    assert "the answer fails the check of $.outputs[0]" in reasons


def test_a_closed_loop_measures_the_throughput_of_its_users(tmp_path: Path, tune: Tune) -> None:
    write_spec(tmp_path, "path: /stream", load="{max_trial: 5s, max_warmup: 2s, arrivals: closed, users: 4}")
    done = tune("--service", "spec.yaml", "--budget", 1)
    assert done.returncode == 0, done.stderr
    assert recommendation(tmp_path / "tuning" / "api")["capacity_qps"]["value"] == pytest.approx(4 / 0.135, rel=0.15)


def test_a_locustfile_needs_no_request_in_the_spec(tmp_path: Path, tune: Tune) -> None:
    (tmp_path / "users.py").write_text(
        "from locust import FastHttpUser, task\n\n\nclass Reader(FastHttpUser):\n    @task\n"
        "    def read(self):\n        self.client.get('/text')\n",
        encoding="utf-8",
    )
    path = write_spec(tmp_path, "", load="{max_trial: 12s, max_warmup: 2s, locustfile: users.py}")
    text = path.read_text(encoding="utf-8").replace("request: {}\n", "")
    path.write_text(text, encoding="utf-8")
    done = tune("--service", "spec.yaml", "--budget", 1)
    assert done.returncode == 0, done.stderr
    assert recommendation(tmp_path / "tuning" / "api")["capacity_qps"]["value"] > 20
