"""Server adapters: the contract that all of them keep, and what each makes of a configuration.

`tests/test_examples.py` runs six of them as real servers; the others are checked against their documentation here.
"""

from __future__ import annotations

import json
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from runners.servers import AdapterError, Model, ServerAddress, Tensor, adapter_named, adapter_names, server_preset
from runners.servers.testing import HERE, AdapterCase, AdapterContract
from runners.servers.v2 import bodies

PATHS = {
    "bentoml": "service:Digits", "fastapi": "app:app", "kserve": "model.py", "litserve": "api:DigitsAPI",
    "llama.cpp": "model.gguf", "mlserver": "models", "onnxruntime": "app:app", "openvino": "app:app",
    "ray-serve": "app:digits", "sglang": "org/model", "tf-serving": "models/digits", "torchserve": "store/digits.mar",
    "triton": "models", "vllm": "org/model",
}  # fmt: skip


@pytest.mark.parametrize("name", PATHS)
class TestAdapters(AdapterContract):
    @pytest.fixture
    def case(self, name: str) -> AdapterCase:
        return AdapterCase(adapter_named(name), Model("digits", PATHS[name]))


def launched(name: str, **values: bool | float | str) -> str:
    made = adapter_named(name).launch(Model("digits", PATHS[name]), values, HERE)
    env = [f"{key}={value}" for key, value in made.env.items()]
    return "\n".join((" ".join(made.command), *env, *made.files.values()))


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("triton", {"threads": 2}, ["--model-control-mode explicit", "--load-model digits", "OMP_NUM_THREADS=2"]),
        ("triton", {"batch_size": 8, "batch_delay": 1.5, "instances": 2, "engine": "tensorrt"},
         ["max_batch_size: 8", "max_queue_delay_microseconds: 1500", "count: 2",
          'gpu_execution_accelerator [ {', 'name: "tensorrt"']),
        ("torchserve", {"threads": 2},
         ["--enable-model-api", "management_address=http://127.0.0.1:8124", "OMP_NUM_THREADS=2"]),
        ("mlserver", {"workers": 2, "batch_size": 8, "batch_delay": 5},
         ["MLSERVER_PARALLEL_WORKERS=2", "MLSERVER_MODEL_MAX_BATCH_SIZE=8", "MLSERVER_MODEL_MAX_BATCH_TIME=0.005"]),
        ("kserve", {"workers": 2, "max_threads": 8}, ["--workers 2", "--max_threads 8", "--http_port 8123"]),
        ("ray-serve", {"workers": 2, "batch_size": 8, "batch_delay": 5},
         ['"num_replicas": 2', '"max_batch_size": 8', '"batch_wait_timeout_s": 0.005', '"port": 8123']),
        ("litserve", {"workers": 2, "batch_size": 8, "batch_delay": 5},
         ["'max_batch_size': 8", "'batch_timeout': 0.005", "'workers_per_device': 2", "port=8123"]),
        ("tf-serving", {"batch_size": 8, "batch_delay": 5, "workers": 2, "gpu_memory_share": 0.5},
         ["max_batch_size { value: 8 }", "batch_timeout_micros { value: 5000 }", "num_batch_threads { value: 2 }",
          "--per_process_gpu_memory_fraction=0.5", "--enable_batching=true"]),
        ("vllm", {"batch_size": 64, "gpu_memory_share": 0.9, "precision": "bf16", "compile": False,
                  "prefix_caching": False, "quantization": "none"},
         ["vllm serve org/model", "--max-num-seqs 64", "--gpu-memory-utilization 0.9", "--dtype bfloat16",
          "--enforce-eager", "--no-enable-prefix-caching"]),
        ("sglang", {"batch_size": 64, "gpu_memory_share": 0.9, "compile": True},
         ["--max-running-requests 64", "--mem-fraction-static 0.9", "--enable-torch-compile"]),
        ("llama.cpp", {"workers": 2, "threads": 4, "flash_attention": "auto"},
         ["llama-server --model", "--parallel 2", "--ctx-size 8192", "--threads 4", "--flash-attn auto"]),
        ("bentoml", {"workers": 2, "batch_size": 8}, ['"workers": 2', "BATCH_SIZE=8", "--port 8123"]),
        ("onnxruntime", {"threads": 2, "engine": "openvino"}, ["ORT_INTRA_OP_THREADS=2", "ORT_PROVIDER=openvino"]),
        ("openvino", {"streams": 2, "precision": "bf16"}, ["OV_NUM_STREAMS=2", "OV_INFERENCE_PRECISION=bf16"]),
    ],
)  # fmt: skip
def test_knobs_are_written_as_the_server_documents_them(
    name: str, values: dict[str, bool | float | str], said: list[str]
) -> None:
    text = launched(name, **values)
    assert [one for one in said if one not in text] == []


def test_a_flag_that_is_not_tuned_is_not_given() -> None:
    assert "none" not in launched("vllm", quantization="none", kv_cache_dtype="auto")
    assert "--enable_batching" not in launched("tf-serving", threads=2)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("vllm", {"compile": "inductor"}, "'inductor' is neither true nor false"),
        ("bentoml", {"max_concurrency": "none"}, "'none' is not a whole number"),
    ],
)
def test_a_value_that_a_knob_cannot_have_is_refused(name: str, values: dict[str, str], said: str) -> None:
    with pytest.raises(AdapterError, match=said):
        launched(name, **values)


def test_options_that_are_no_numbers_are_refused() -> None:
    for name, option in (("vllm", "max_tokens"), ("sglang", "prompt_words"), ("llama.cpp", "context")):
        model, adapter = Model("m", PATHS[name], options={option: "lots"}), adapter_named(name)
        with pytest.raises(AdapterError, match="'lots' is not a whole number") as caught:
            adapter.launch(model, {}, HERE), adapter.request(model)
        assert caught.value.key == ("service", "model", "options", option)


def test_a_served_name_is_told_to_the_server_and_asked_for() -> None:
    for name in ("vllm", "sglang"):
        model = Model("m", PATHS[name], options={"served_name": "mine"})
        words = adapter_named(name).launch(model, {}, HERE).command
        assert words[words.index("--served-model-name") + 1] == "mine"
        [body, *_] = adapter_named(name).request(model).bodies
        assert json.loads(body)["model"] == "mine"
        assert json.loads(body)["stream_options"] == {"include_usage": True}


def test_a_models_name_is_quoted_in_paths() -> None:
    model = Model("my model/ü", "models")
    assert adapter_named("triton").request(model).path == "/v2/models/my%20model%2F%C3%BC/infer"
    for name in ("torchserve", "tf-serving", "mlserver", "kserve"):
        assert adapter_named(name).request(model).path.isascii()


def test_half_floats_are_asked_of_triton_by_grpc() -> None:
    inputs = (Tensor("ids", "INT64", (1,)), Tensor("x", "FP16", (1, 4)))
    with pytest.raises(AdapterError, match=r"Triton takes x \(FP16\) by gRPC alone"):
        adapter_named("triton").request(Model("m", "models", inputs=inputs))
    assert adapter_named("triton").request(Model("m", "models", inputs=inputs, grpc=True)).bodies
    assert adapter_named("mlserver").request(Model("m", "models", inputs=inputs)).bodies


def test_in_a_container_a_program_is_where_the_image_has_it() -> None:
    model = Model("m", "/models/m.gguf", contained=True)
    assert adapter_named("llama.cpp").launch(model, {}, HERE).command[0] == "/app/llama-server"


def test_every_server_has_a_preset_of_its_own_knobs() -> None:
    assert set(PATHS) == set(adapter_names())
    for name in adapter_names():
        parameters, constraints = server_preset(adapter_named(name))
        assert parameters
        assert set(parameters) - {"cpu_cores"} <= {knob.name for knob in adapter_named(name).knobs}
        assert all(any(one in text for one in parameters) for text in constraints)


@pytest.mark.parametrize(("name", "said"), [("tritn", "did you mean triton"), ("x9", "there are custom, bentoml")])
def test_a_server_of_another_name_is_refused_with_the_nearest(name: str, said: str) -> None:
    with pytest.raises(AdapterError, match=said):
        adapter_named(name)


def test_servers_are_found_by_the_names_that_people_know_them_by() -> None:
    names = ("seldon", "TF_Serving", "ray", "llama-cpp")
    assert [adapter_named(name).name for name in names] == ["mlserver", "tf-serving", "ray-serve", "llama.cpp"]


def test_an_adapter_of_another_package_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "from runners.servers import ServerAdapter\nclass Mine(ServerAdapter):\n    name = 'mine'\n", encoding="utf-8"
    )
    info = tmp_path / "mine-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: mine\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[tune.servers]\nmine = mine:Mine\nbroken = mine:No\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "mine" in {one.name for one in metadata.entry_points(group="tune.servers")}
    assert adapter_named("mine").name == "mine"
    with pytest.raises(AdapterError, match="the adapter broken of mine:No cannot be loaded"):
        adapter_named("broken")


def test_requests_have_the_shapes_and_types_that_the_model_names() -> None:
    made = bodies([Tensor("pixels", "FP32", (-1, 3)), Tensor("text", "BYTES", (1,)), Tensor("on", "BOOL", (2,))])
    assert len(made) == len(set(made))
    [pixels, text, on] = json.loads(made[0])["inputs"]
    assert (pixels["shape"], len(pixels["data"]), text["shape"], on["shape"]) == ([1, 3], 3, [1], [2])
    assert isinstance(text["data"][0], str)
    with pytest.raises(AdapterError, match="cannot make data of the type COMPLEX64"):
        bodies([Tensor("x", "COMPLEX64", (1,))])


def archive(path: Path, config: str | None) -> Path:
    model = {"modelName": "digits", "modelVersion": "2.0"} | ({"configFile": "c.yaml"} if config else {})
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": model}))
        if config:
            made.writestr("c.yaml", config)
    return path


def test_torchserves_archive_is_read_before_it_is_served(tmp_path: Path) -> None:
    server = adapter_named("torchserve")
    good = archive(tmp_path / "good.mar", None)
    server.check(Model("digits", str(good), good), {"batch_size": 4})
    own = archive(tmp_path / "own.mar", "batchSize: 8\n")
    with pytest.raises(AdapterError, match="has batchSize in its own configuration, which beats what is tuned"):
        server.check(Model("digits", str(own), own), {"batch_size": 4})
    server.check(Model("digits", str(own), own), {"threads": 4})
    with pytest.raises(AdapterError, match="is no model archive"):
        server.check(Model("digits", "odd.mar", archive(tmp_path / "odd.mar", "a: [1\n")), {})
    broken = tmp_path / "broken.mar"
    broken.write_text("no zip", encoding="utf-8")
    with pytest.raises(AdapterError, match="is no model archive"):
        server.check(Model("digits", str(broken), broken), {})
    # Exported, without further ports, the file itself names the model: nobody is there to register it.
    made = server.launch(Model("digits", str(good), good), {"batch_size": 4}, HERE.__class__("0.0.0.0", 8000, "/f"))
    assert '"2.0": {"defaultVersion": true, "marName": "good.mar", "batchSize": 4}' in made.files["config.properties"]
    assert "management_address=http://127.0.0.1" in made.files["config.properties"]


def test_mlservers_own_settings_that_beat_the_environment_are_refused(tmp_path: Path) -> None:
    server, path = adapter_named("mlserver"), tmp_path / "model-settings.json"
    path.write_text('{"name": "digits", "max_batch_size": 8}', encoding="utf-8")
    model = Model("digits", str(tmp_path), tmp_path)
    with pytest.raises(AdapterError, match="sets max_batch_size, which beats the value that is tuned"):
        server.check(model, {"batch_size": 4})
    server.check(model, {"workers": 2})
    (tmp_path / "digits").mkdir()
    path.rename(tmp_path / "digits" / "model-settings.json")
    (tmp_path / "settings.json").write_text('{"parallel_workers": 4}', encoding="utf-8")
    with pytest.raises(
        AdapterError, match=r"settings\.json sets parallel_workers, which beats what the server is told"
    ):
        server.check(model, {"workers": 2})
    with pytest.raises(AdapterError, match="holds no model other; it holds digits"):
        server.check(Model("other", str(tmp_path), tmp_path), {})


def test_a_server_that_is_not_there_counts_nothing() -> None:
    away = ServerAddress("http://127.0.0.1:9", ("http://127.0.0.1:9", "http://127.0.0.1:9"))
    for name in adapter_names():
        assert adapter_named(name).statistics(away, Model("digits", PATHS[name])) is None
