"""Files of JSON lines: a text in them may hold what ends a line elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuner.launch.quality import _labelled
from tuner.spec.reading import load_spec

SPEC = """\
version: 1
service: {name: said, command: [serve, '{port}']}
request: {path: /p, json: {x: 1}}
slo: {p99: 50ms}
space: {parameters: {workers: [1, 2]}}
objective: {maximize: capacity_qps}
quality: {dataset: labelled.jsonl, answer: $.y}
"""


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\u0085"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_labelled_requests_end_at_the_end_of_a_line_alone(tmp_path: Path, inside: str, end: str) -> None:
    lines = [json.dumps({"request": {"x": f"a{inside}b"}, "label": one}, ensure_ascii=False) for one in range(3)]
    (tmp_path / "labelled.jsonl").write_bytes((end.join(lines) + end).encode())
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    loaded = load_spec(tmp_path / "spec.yaml")
    assert loaded.spec.quality is not None
    found = _labelled(loaded, loaded.spec.quality, tmp_path / "labelled.jsonl")
    assert found.right == (0, 1, 2)
    assert json.loads(found.bodies[0].content)["x"] == f"a{inside}b"
