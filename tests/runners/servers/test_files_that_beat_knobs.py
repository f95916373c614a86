"""Models' own files: what would beat a knob is found before a launch, and what was loaded is what is exported."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from runners import Placement
from runners.servers import AdapterError, Model, adapter_named
from runners.servers.adapters.triton import _changed, _exported, _within_parts
from runners.servers.text_proto import TextProtoError, parse, written

SEQUENCE = """
name: "asr"  # a model that keeps state
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "audio" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "text" data_type: TYPE_STRING dims: [ 1 ] } ]
sequence_batching {
  max_sequence_idle_microseconds: 10000000
  STRATEGY
  control_input [ { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] } ]
}
"""
ENSEMBLE = """
name: "rag" platform: "ensemble" max_batch_size: 8
ensemble_scheduling {
  step [ { model_name: "tok" model_version: -1 }, { model_name: "llm" } ] step { model_name: "tok" }
}
"""
OLDEST = {"max_candidate_sequences": 8, "preferred_batch_size": [8], "max_queue_delay_microseconds": "5000"}
UNBATCHED = """
name: 'nobatch' backend: "python" max_batch_size: 0
input [ { name: "i" data_type: TYPE_UINT8 dims: [ -1 ] } ]
output [ { name: "o" data_type: TYPE_FP32 dims: [ -1, 4 ] } ]
instance_group [ { count: 1 kind: KIND_GPU gpus: [ 0 ] }, { count: 1 kind: KIND_GPU gpus: [ 1 ] } ]
"""


def model(folder: Path, name: str, config: str) -> Model:
    (folder / name).mkdir()
    (folder / name / "config.pbtxt").write_text(config, encoding="utf-8")
    return Model(name=name, path=str(folder), local=folder)


def exported(made: Model, values: dict[str, Any]) -> dict[str, Any]:
    """The exported part of the configuration, as Triton's own protobuf reads it."""
    message = text_format.Parse(_exported(made, values)["config.pbtxt"], model_config_pb2.ModelConfig())
    found: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return found


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        ("oldest { max_candidate_sequences: 4 }",
         {"oldest": OLDEST}),
        ("", {"oldest": OLDEST}),
        ("direct { minimum_slot_utilization: 0.5 }",
         {"direct": {"minimum_slot_utilization": 0.5, "max_queue_delay_microseconds": "5000"}}),
    ],
)  # fmt: skip
def test_sequences_keep_the_one_scheduler_that_a_model_has(
    tmp_path: Path, strategy: str, wanted: dict[str, Any]
) -> None:
    text, values = SEQUENCE.replace("STRATEGY", strategy), {"batch_size": 8, "batch_delay": 5, "instances": 2}
    loaded = json_format.MessageToDict(
        text_format.Parse(text, model_config_pb2.ModelConfig()), preserving_proto_field_name=True
    )
    json_format.ParseDict(_changed(loaded, values), model_config_pb2.ModelConfig())  # no second scheduler in it
    found = exported(model(tmp_path, "asr", text), values)
    assert "dynamic_batching" not in found
    scheduler = found["sequence_batching"]
    assert {key: scheduler[key] for key in wanted} == wanted
    assert scheduler["max_sequence_idle_microseconds"] == "10000000"


def test_an_ensemble_is_refused_with_its_parts(tmp_path: Path) -> None:
    made = model(tmp_path, "rag", ENSEMBLE)
    with pytest.raises(AdapterError, match="tune one of its parts: tok, llm"):
        adapter_named("triton").check(made, {"batch_size": 4})
    with pytest.raises(AdapterError, match="is an ensemble"):
        _changed({"name": "rag", "platform": "ensemble"}, {"instances": 2})


def test_what_was_loaded_is_what_is_exported(tmp_path: Path) -> None:
    made = model(tmp_path, "nobatch", UNBATCHED)
    found = exported(made, {"batch_size": 1, "instances": 2})
    assert found == {"name": "nobatch", "instance_group": [{"count": 2, "kind": "KIND_GPU", "gpus": [0]}]}
    with pytest.raises(AdapterError, match="max_batch_size is 0"):
        _exported(made, {"batch_size": 4})


def test_a_configuration_that_is_none_is_said_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"config\.pbtxt is not a model configuration: line 2"):
        adapter_named("triton").check(model(tmp_path, "x", 'name: "x"\n}'), {})


@pytest.mark.parametrize("text", ["a", "a: ", "a {", "a: [1", "a: {b: }", '"a": 1', "a: 'x", "a" * 9 + "{" * 500])
def test_text_that_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(TextProtoError, match="line 1"):
        parse(text)


ODD = r"""name: "a\"b\\" 'c'  v < x: 1; > y: -1.5e3"""


def test_a_message_is_written_as_it_was_read() -> None:
    for text in (
        SEQUENCE.replace("STRATEGY", ""),
        ENSEMBLE,
        UNBATCHED,
        r"""name: "a\"b\\" 'c'  v < x: 1; > y: -1.5e3""",
    ):
        assert parse(written(parse(text))) == parse(text)


@pytest.mark.parametrize(
    ("file", "content", "setting"),
    [
        ("model-settings.json", {"parallel_workers": 0}, "parallel_workers"),
        ("model-settings.json", {"max_batch_size": 4}, "max_batch_size"),
        ("model-settings.json", {"max_batch_time": 1}, "max_batch_time"),
        ("settings.json", {"parallel_workers": 1}, "parallel_workers"),
        ("settings.json", {"grpc_port": 8081}, "grpc_port"),
        ("settings.json", {"metrics_port": 8082}, "metrics_port"),
        ("settings.json", {"http_port": 8080}, "http_port"),
        ("settings.json", {"debug": True}, None),
    ],
)
def test_mlservers_own_files_do_not_beat_what_is_tuned(
    tmp_path: Path, file: str, content: dict[str, Any], setting: str | None
) -> None:
    (tmp_path / "model-settings.json").write_text(json.dumps({"name": "digits"}), encoding="utf-8")
    (tmp_path / file).write_text(json.dumps({"name": "digits"} | content), encoding="utf-8")
    made = Model(name="digits", path=str(tmp_path), local=tmp_path)
    values = {"batch_size": 4, "batch_delay": 1, "workers": 2}
    if setting is None:
        adapter_named("mlserver").check(made, values)
        return
    with pytest.raises(AdapterError, match=f"{file} sets {setting}, which beats"):
        adapter_named("mlserver").check(made, values)


@pytest.mark.parametrize("setting", ["batchSize", "maxBatchDelay", "minWorkers", "maxWorkers"])
def test_a_torchserve_archives_own_settings_do_not_beat_what_is_tuned(tmp_path: Path, setting: str) -> None:
    archive = tmp_path / "digits.mar"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": {"configFile": "c.yaml"}}))
        opened.writestr("c.yaml", f"{setting}: 2\n")
    made = Model(name="digits", path=str(archive), local=archive)
    with pytest.raises(AdapterError, match=f"has {setting} in its own configuration"):
        adapter_named("torchserve").check(made, {"batch_size": 4, "batch_delay": 1, "workers": 2})


TOKENS = """
name: "tok" backend: "python" max_batch_size: 4
input [ { name: "i" data_type: TYPE_STRING dims: [ 1 ] } ] output [ { name: "o" data_type: TYPE_INT64 dims: [ -1 ] } ]
"""


def test_the_parts_of_an_ensemble_have_knobs_of_their_own(tmp_path: Path) -> None:
    triton = adapter_named("triton")
    made = model(tmp_path, "rag", ENSEMBLE)
    model(tmp_path, "tok", TOKENS)
    assert triton.parts_of(made) == ("tok", "llm")
    assert triton.parts_of(Model("tok", str(tmp_path), tmp_path)) == ()
    whole = replace(made, parts=triton.parts_of(made))
    values = {"tok/batch_size": 8, "tok/instances": 2, "llm/instances": 3}
    with pytest.raises(AdapterError, match="holds no model llm"):
        triton.check(whole, values)
    model(tmp_path, "llm", UNBATCHED)
    triton.check(whole, values)
    with pytest.raises(AdapterError, match="tune one of its parts: tok, llm"):
        triton.check(whole, {**values, "instances": 2})
    launched = triton.launch(whole, values, Placement("127.0.0.1", 1, "files", (2, 3)))
    words = launched.command
    assert [words[at + 1] for at, word in enumerate(words) if word == "--load-model"] == ["tok", "llm", "rag"]
    assert set(launched.files) == {"tok/config.pbtxt", "llm/config.pbtxt"}
    found = text_format.Parse(launched.files["tok/config.pbtxt"], model_config_pb2.ModelConfig())
    assert (found.max_batch_size, found.instance_group[0].count) == (8, 2)


def test_an_ensemble_takes_no_larger_batches_than_its_parts() -> None:
    ensemble = {"name": "rag", "max_batch_size": 8}
    assert _within_parts(ensemble, [{"max_batch_size": 4}, {"max_batch_size": 16}])["max_batch_size"] == 4
    assert _within_parts(ensemble, [{"max_batch_size": 16}])["max_batch_size"] == 8
    assert _within_parts({"max_batch_size": 0}, [{"max_batch_size": 16}])["max_batch_size"] == 0
