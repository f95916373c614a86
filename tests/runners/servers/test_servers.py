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
    "triton": "models", "vllm": "org/model", "infinity": "org/embedder", "tei": "org/embedder", "lmdeploy": "org/model",
    "ollama": "llama3.2:1b", "tensorrt-llm": "org/model", "ovms": "models/digits",
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
         ["enable_model_api=true", "management_address=http://127.0.0.1:8124", "OMP_NUM_THREADS=2"]),
        ("mlserver", {"workers": 2, "batch_size": 8, "batch_delay": 5},
         ["MLSERVER_PARALLEL_WORKERS=2", "MLSERVER_MODEL_MAX_BATCH_SIZE=8", "MLSERVER_MODEL_MAX_BATCH_TIME=0.005"]),
        ("kserve", {"workers": 2, "max_threads": 8}, ["--workers 2", "--max_threads 8", "--http_port 8123"]),
        ("ray-serve", {"workers": 2, "batch_size": 8, "batch_delay": 5},
         ['"num_replicas": 2', '"max_batch_size": 8', '"batch_wait_timeout_s": 0.005', '"port": 8123']),
        ("litserve", {"workers": 2, "batch_size": 8, "batch_delay": 5},
         ["'max_batch_size': 8", "'batch_timeout': 0.005", "'workers_per_device': 2", "port=8123"]),
        ("tf-serving", {"batch_size": 8, "batch_delay": 5, "workers": 2, "gpu_memory_share": 0.5},
         ["max_batch_size { value: 8 }", "max_enqueued_batches { value: 125 }", "batch_timeout_micros { value: 5000 }",
          "num_batch_threads { value: 2 }",
          "--per_process_gpu_memory_fraction=0.5", "--enable_batching=true"]),
        ("vllm", {"batch_size": 64, "gpu_memory_share": 0.9, "precision": "bf16", "compile": False,
                  "prefix_caching": False, "quantization": "none"},
         ["vllm serve org/model", "--max-num-seqs 64", "--gpu-memory-utilization 0.9", "--dtype bfloat16",
          "--enforce-eager", "--no-enable-prefix-caching"]),
        ("sglang", {"batch_size": 64, "gpu_memory_share": 0.9, "compile": True},
         ["--max-running-requests 64", "--mem-fraction-static 0.9", "--enable-torch-compile"]),
        ("vllm", {"speculative": "ngram", "draft_tokens": 8, "data_parallel": 2, "block_size": 32,
                  "scheduling_policy": "priority", "attention_backend": "FLASHINFER", "chunked_prefill": False},
         ['--speculative-config {"method":"ngram","num_speculative_tokens":8}', "--data-parallel-size 2",
          "--block-size 32", "--scheduling-policy priority", "--attention-backend FLASHINFER",
          "--no-enable-chunked-prefill"]),
        ("sglang", {"speculative": "ngram", "draft_tokens": 8, "block_size": 16, "prefix_caching": False,
                    "attention_backend": "fa3", "mixed_chunk": True, "data_parallel": 2},
         ["--speculative-algorithm NGRAM --speculative-num-draft-tokens 8", "--page-size 16", "--disable-radix-cache",
          "--attention-backend fa3", "--enable-mixed-chunk", "--dp-size 2"]),
        ("tensorrt-llm", {"batch_size": 64, "kv_cache_share": 0.7, "tensor_parallel": 2, "prefix_caching": False,
                          "scheduling_policy": "max_utilization", "draft_tokens": 4, "chunked_prefill": True},
         ["trtllm-serve org/model --host 127.0.0.1 --port 8123", "--max_batch_size 64", "--tp_size 2",
          "--enable_chunked_prefill", "--config /etc/files/trtllm.yaml", '"free_gpu_memory_fraction": 0.7',
          '"enable_block_reuse": false', '"capacity_scheduler_policy": "MAX_UTILIZATION"', '"decoding_type": "NGram"',
          '"return_perf_metrics": true']),
        ("lmdeploy", {"batch_size": 64, "kv_cache_bits": 8, "precision": "fp16", "compile": False},
         ["lmdeploy serve api_server org/model --server-name 127.0.0.1 --server-port 8123 --model-name org/model",
          "--max-batch-size 64", "--quant-policy 8", "--dtype float16", "--eager-mode"]),
        ("ollama", {"workers": 4, "kv_cache_dtype": "q8_0", "flash_attention": True},
         ["ollama serve", "OLLAMA_HOST=127.0.0.1:8123", "OLLAMA_NUM_PARALLEL=4", "OLLAMA_KV_CACHE_TYPE=q8_0",
          "OLLAMA_FLASH_ATTENTION=1", "OLLAMA_KEEP_ALIVE=-1"]),
        ("tei", {"batch_size": 16, "max_concurrent_requests": 512, "precision": "fp16"},
         ["text-embeddings-router --model-id org/embedder --hostname 127.0.0.1 --port 8123", "--prometheus-port 8124",
          "--max-batch-requests 16", "--max-concurrent-requests 512", "--dtype float16"]),
        ("infinity", {"batch_size": 16, "compile": False, "better_transformer": False, "threads": 2},
         ["infinity_emb v2 --model-id org/embedder --served-model-name digits", "--batch-size 16", "--no-compile",
          "--no-bettertransformer", "OMP_NUM_THREADS=2"]),
        ("ovms", {"requests": 4, "streams": 2, "threads": 2, "performance_hint": "LATENCY"},
         ["ovms --model_name digits --model_path models/digits", "--rest_port 8123", "--port 8124", "--nireq 4",
          '{"INFERENCE_NUM_THREADS": "2", "NUM_STREAMS": "2", "PERFORMANCE_HINT": "LATENCY"}']),
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
    assert "max_enqueued_batches" not in launched("tf-serving", workers=2)
    assert "token-auth" not in launched("torchserve", workers=2), "older ones know no such flag"
    assert "max_enqueued_batches { value: 10 }" in launched("tf-serving", batch_size=512), "its own number"


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
    for name in ("vllm", "sglang", "lmdeploy", "tensorrt-llm"):
        model = Model("m", PATHS[name], options={"served_name": "mine"})
        words = adapter_named(name).launch(model, {}, HERE).command
        flag = {"lmdeploy": "--model-name", "tensorrt-llm": "--served_model_name"}.get(name, "--served-model-name")
        assert words[words.index(flag) + 1] == "mine"
        [body, *_] = adapter_named(name).request(model).bodies
        assert json.loads(body)["model"] == "mine"
        assert json.loads(body)["stream_options"] == {"include_usage": True}


def test_a_way_to_speculate_brings_its_model() -> None:
    model = Model("m", "org/model", options={"draft_model": "org/draft"})
    said = {
        name: " ".join((*made.command, *made.files.values()))
        for name in ("vllm", "sglang", "tensorrt-llm")
        for made in [adapter_named(name).launch(model, {"speculative": "eagle3", "draft_tokens": 3}, HERE)]
    }
    assert '{"method":"eagle3","num_speculative_tokens":3,"model":"org/draft"}' in said["vllm"]
    assert (
        "--speculative-algorithm EAGLE3 --speculative-draft-model-path org/draft --speculative-num-steps 3 "
        "--speculative-eagle-topk 1 --speculative-num-draft-tokens 4" in said["sglang"]
    )
    assert '"speculative_model_dir": "org/draft"' in said["tensorrt-llm"]
    for name in said:
        assert "org/draft" not in " ".join(adapter_named(name).launch(model, {"speculative": "none"}, HERE).command)


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
    names = {
        "seldon": "mlserver", "TF_Serving": "tf-serving", "ray": "ray-serve", "llama-cpp": "llama.cpp",
        "trtllm-serve": "tensorrt-llm", "text-embeddings-inference": "tei", "openvino-model-server": "ovms",
    }  # fmt: skip
    assert {name: adapter_named(name).name for name in names} == names


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
