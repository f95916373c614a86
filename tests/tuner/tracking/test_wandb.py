"""A run for Weights & Biases, offline, read back from the file that `wandb sync` sends."""

from __future__ import annotations

import importlib
import importlib.util
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Tune, recommendation
from tests.tuner.tracking.test_otel import demo

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("wandb") is None, reason="the extra is not installed: pip install '.[wandb]'"
)


def stored(content: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format: blocks of 32 KiB, parts with checksum, length and kind (1 whole,
    2 first, 3 middle, 4 last); seven bytes say first what the file is.
    """
    assert content[:4] == b":W&B"
    position, parts = 7, b""
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


@pytest.mark.usefixtures("needs_machine")
def test_a_run_is_an_offline_run_with_a_step_per_trial_and_a_table(tmp_path: Path, tune_process: Tune) -> None:
    record_of: Any = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    done = tune_process("--service", demo(tmp_path), "--budget", 3, "--output", "out", "--wandb-dir", "kept")
    assert done.returncode == 0, done.stderr
    assert "keeps no track" not in done.stderr
    best = recommendation(tmp_path / "out")
    (path,) = (tmp_path / "kept" / "wandb").glob("offline-run-*/*.wandb")
    steps: list[dict[str, str]] = []
    summary: dict[str, str] = {}
    for data in stored(path.read_bytes()):
        record = record_of.FromString(data)
        if record.HasField("history"):
            steps.append({".".join(one.nested_key) or one.key: one.value_json for one in record.history.item})
        if record.HasField("summary"):
            summary |= {".".join(one.nested_key) or one.key: one.value_json for one in record.summary.update}
    measured = [json.loads(one["trial/capacity_qps"]) for one in steps if "trial/capacity_qps" in one]
    assert best["capacity_qps"]["value"] in measured
    assert json.loads(summary["capacity_qps"]) == best["capacity_qps"]["value"]
    (table,) = (tmp_path / "kept" / "wandb").glob("offline-run-*/files/media/table/trials*.json")
    assert {"trial", "state", "batch_size", "capacity_qps"} <= set(json.loads(table.read_text())["columns"])
