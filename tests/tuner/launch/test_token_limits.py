"""Limits on tokens of a server that streams by its kind: whose answers are read as streams, and whose cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.errors import SpecError
from tuner.launch.checks.before_launch import check, warnings
from tuner.launch.checks.streams import check_streams
from tuner.launch.requests import request_source
from tuner.spec.reading import LoadedSpec, load_spec

SPEC = """\
version: 1
service: {name: chat, server: vllm, model: {path: a/b}}
space: {parameters: {cpu_cores: [1]}}
prices: {cpu_core_hour: 0.04}
"""
OWN_CHATS = "request: {dataset: chats.jsonl"
TOKEN_LIMIT = "slo: {ttft: {p99: 1s}}"


def load_language(folder: Path, request: str, slo: str = TOKEN_LIMIT, more: str = "") -> LoadedSpec:
    (folder / "chats.jsonl").write_text('{"messages": [], "stream": true}\n', encoding="utf-8")
    (folder / "spec.yaml").write_text("\n".join([SPEC.rstrip(), slo, request, more]), encoding="utf-8")
    return load_spec(folder / "spec.yaml")


@pytest.mark.parametrize(
    ("request_", "slo", "more", "stream"),
    [
        (OWN_CHATS + "}", TOKEN_LIMIT, "", "openai"),
        ("request: {json: {stream: true}}", "slo: {goodput: {ttft: 1s, tpot: 50ms}}", "", "openai"),
        (OWN_CHATS + "}", "slo: {p99: 5s}", "objective: {minimize: cost_per_million_output_tokens}", "openai"),
        (OWN_CHATS + "}", "slo: {p99: 5s}", "", None),
        (OWN_CHATS + ", stream: null}", "slo: {p99: 5s}", "", None),
        ("request: {}", "slo: {p99: 5s}", "", "openai"),
    ],
)
def test_ones_own_bodies_are_streams_where_tokens_are_asked_for(
    tmp_path: Path, request_: str, slo: str, more: str, stream: str | None
) -> None:
    loaded = load_language(tmp_path, request_, slo, more)
    check_streams(loaded)
    assert request_source(loaded).plan.stream == stream


@pytest.mark.parametrize(
    ("request_", "slo", "more", "said"),
    [
        (OWN_CHATS + ", stream: null}", TOKEN_LIMIT, "", "slo: ttft, tpot, itl, goodput and tokens_per_second need"),
        ("", TOKEN_LIMIT, "load: {locustfile: l.py}", "slo: a locustfile's answers are not read as streams"),
        (
            "",
            "slo: {p99: 5s}",
            "load: {locustfile: l.py}\nobjective: {minimize: cost_per_million_tokens}",
            "objective: a locustfile's answers are not read as streams",
        ),
        (OWN_CHATS + ", path: /v1/embeddings}", TOKEN_LIMIT, "", "request.path: /v1/embeddings does not stream its"),
        (OWN_CHATS + ", check: {status: 200}}", TOKEN_LIMIT, "", "request.check: the answers are read as streams"),
        (
            OWN_CHATS + ", others: [{path: /v1/completions, share: 30%, json: {}, check: {status: 200}}]}",
            TOKEN_LIMIT, "", "request.others.0.check: the answers are read as streams",
        ),
        ("request: {check: {status: 200}}", "slo: {p99: 5s}", "", "request.check: the answers are read as streams"),
    ],
)  # fmt: skip
def test_limits_of_tokens_that_nobody_would_see_are_refused(
    tmp_path: Path, request_: str, slo: str, more: str, said: str
) -> None:
    with pytest.raises(SpecError) as caught:
        check(load_language(tmp_path, request_, slo, more))
    assert said in str(caught.value)
    assert "spec.yaml:" in str(caught.value)


def test_ones_own_bodies_that_ask_for_no_stream_are_named(tmp_path: Path) -> None:
    body = "{json: {messages: []}, path: /v1/chat/completions}"
    assert not [
        text for text in warnings(load_language(tmp_path, f"request: {body}", "slo: {p99: 5s}")) if "stream:" in text
    ]
    assert [
        text for text in warnings(load_language(tmp_path, f"request: {body}")) if "write stream: true in it" in text
    ]
