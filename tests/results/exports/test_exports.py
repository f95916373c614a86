"""Exports: what really reads each format accepts it, and it says what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from results import Estimate
from results.exports import FORMATS, SERVERS, Deployable, NotExportable, exported, offered
from results.exports.deployable import DeployedProgram, Listening, MeasuredReplica, Needs
from results.exports.documents import header
from results.exports.servers import uses
from tests.results.exports.schemas.reduce import fields_of

HOSTILE = "x\n---\nkind: Secret\n# \x1b[31m"
RELEASES = ("1.29", "1.31", "1.33")


def example(**changes: Any) -> Deployable:
    one = Deployable(
        service="Mini_LM.v2", configuration={"cpu_cores": 2, "batch_size": 8, "note": HOSTILE}, notes=(), qps=450.0,
        program=DeployedProgram(
            image="minilm:1", command=("python", "server.py", "--port", "8000", "--x", "$HOME"),
            env={"OMP_NUM_THREADS": "2", "PRICE": "$5"}, secrets=(), files={"models/config.properties": "a=1\n"},
            files_folder="/etc/tune",
        ),
        listens=Listening(port=8000, https=False, ready_path="/healthz", ready_timeout_s=120.0),
        needs=Needs(
            requests={"cpu": "2", "memory": "2147483648", "nvidia.com/gpu": "1"}, cpu_cores=2.0,
            memory_bytes=2 * 2**30, gpu_type="T4", node_selector={"nvidia.com/gpu.product": "Tesla-T4"},
            tolerations=({"key": "nvidia.com/gpu", "operator": "Exists"},), shm_bytes=2**28,
        ),
        measured=MeasuredReplica(
            capacity=Estimate(value=100, low=95, high=104), knee_qps=70.0, p50_ms=12.0, cores_used=1.6,
            limit="p99 <= 50 ms", confirmed=True,
        ),
        roles={"cpu_cores": 2, "batch_size": 8, "batch_delay": "5ms", "workers": 2, "threads": 2},
    )  # fmt: skip
    return changed(one, **changes)


def changed(one: Deployable, **changes: Any) -> Deployable:
    """With other values of its own fields, or of the fields of its parts."""
    own = {name: value for name, value in changes.items() if hasattr(one, name)}
    for part in ("program", "listens", "needs", "measured"):
        inner = {name: value for name, value in changes.items() if hasattr(getattr(one, part), name)}
        own |= {part: replace(getattr(one, part), **inner)} if inner else {}
    return replace(one, **own)


ENGINES = {
    "vllm": (
        "vllm",
        "serve",
        "org/model",
        "--host",
        "0.0.0.0",
        "--port",
        "8000",
        "--max-num-seqs",
        "64",
        "--enforce-eager",
    ),
    "sglang": ("python", "-m", "sglang.launch_server", "--model-path", "org/model", "--port", "8000", "--tp-size=2"),
    "ray-serve": ("serve", "run", "app:deployed"),
}
ENGINES["llm-inference-service"] = ENGINES["vllm"]


def runs_it(name: str, **changes: Any) -> Deployable:
    """A service that can be exported in a format."""
    files: dict[str, Any] = {"files": {}} if name in ("leader-worker-set", "llm-inference-service") else {}
    image = "tritonserver" if name == "kubedl" else f"torchserve mlserver {name}"
    command = ENGINES.get(name, ("tritonserver",))
    return example(**({"image": image, "command": command} | files | changes))


def documents(text: str) -> list[dict[str, Any]]:
    return [one for one in YAML(typ="safe", pure=True).load_all(text) if one]


@pytest.mark.parametrize("release", RELEASES)
def test_kubernetes_accepts_its_objects(release: str) -> None:
    import kubernetes_validate

    found = documents(FORMATS["kubernetes"](example())["mini-lm-v2.yaml"])
    assert [one["kind"] for one in found] == ["ConfigMap", "Deployment", "Service", "HorizontalPodAutoscaler"]
    for one in found:
        kubernetes_validate.validate(one, release, strict=True)
    patched = documents(FORMATS["patch"](example())["patch.yaml"])[0]
    patched["spec"] |= {"selector": {}}
    kubernetes_validate.validate(patched, release, strict=True)


def test_a_replica_that_claims_its_gpus_is_exported_with_the_template() -> None:
    import kubernetes_validate

    request = {"deviceClassName": "gpu.nvidia.com", "allocationMode": "ExactCount", "count": 2}
    claim = {"spec": {"devices": {"requests": [{"name": "gpu", "exactly": request}]}}}
    one = example(claim=claim, requests={"cpu": "2"})
    found = documents(FORMATS["kubernetes"](one)["mini-lm-v2.yaml"])
    assert [document["kind"] for document in found][:3] == ["ConfigMap", "ResourceClaimTemplate", "Deployment"]
    for document in found:
        kubernetes_validate.validate(document, "1.37", strict=True)
    pod = found[2]["spec"]["template"]["spec"]
    assert pod["resourceClaims"] == [{"name": "gpu", "resourceClaimTemplateName": found[1]["metadata"]["name"]}]
    assert pod["containers"][0]["resources"]["claims"] == [{"name": "gpu"}]
    kept = documents(FORMATS["kserve"](one)["mini-lm-v2.yaml"])
    assert [document["kind"] for document in kept] == ["ConfigMap", "ResourceClaimTemplate", "InferenceService"]
    assert "resourceClaimTemplateName" in FORMATS["patch"](one)["patch.yaml"]


def test_the_autoscaler_targets_the_knee_and_replicas_are_for_the_traffic() -> None:
    found = {one["kind"]: one for one in documents(FORMATS["kubernetes"](example())["mini-lm-v2.yaml"])}
    [metric] = found["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["resource"]["target"]["averageUtilization"] == 56  # 1.6 cores x 70/100 of 2 cores
    assert found["Deployment"]["spec"]["replicas"] == 6  # 450 / 95, and one spare
    unknown = example(cores_used=None)
    found = {one["kind"]: one for one in documents(FORMATS["kubernetes"](unknown)["mini-lm-v2.yaml"])}
    [metric] = found["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["target"]["averageValue"] == "70"


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_no_text_breaks_out_of_a_comment(name: str) -> None:
    for path, text in FORMATS[name](runs_it(name)).items():
        assert "\x1b" not in text
        assert not any(line.startswith("kind: Secret") for line in text.splitlines()), path
        if path.endswith(".yaml"):
            assert documents(text)


def test_compose_reads_dollars_as_they_are() -> None:
    [service] = documents(FORMATS["compose"](example())["compose.yaml"])[0]["services"].values()
    assert service["entrypoint"][-1] == "$$HOME"
    assert service["environment"]["PRICE"] == "$$5"
    assert service["ports"] == ["127.0.0.1:8000:8000"]


def test_secrets_are_referred_to_and_never_written() -> None:
    one = example(secrets=("LICENCE_KEY", "PRICE"))
    [deployment] = [
        found for found in documents(FORMATS["kubernetes"](one)["mini-lm-v2.yaml"]) if found["kind"] == "Deployment"
    ]
    *_, last = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    reference = {"name": "mini-lm-v2-secrets", "key": "LICENCE_KEY"}
    assert last == {"name": "LICENCE_KEY", "valueFrom": {"secretKeyRef": reference}}
    text = FORMATS["compose"](one)["compose.yaml"]
    found = documents(text)[0]["services"]["mini-lm-v2"]["environment"]
    assert found["LICENCE_KEY"] == "${LICENCE_KEY:?is not set}"
    assert found["PRICE"] == "$$5", "the spec's own"
    assert "LICENCE_KEY, PRICE are secrets, which are for you to provide" in text
    assert "; PRICE is a secret, which is for you to provide" in header(example(secrets=("PRICE",)))


def test_servers_files_have_what_was_tuned() -> None:
    one = example(files={})
    assert "max_batch_size: 8" in SERVERS["triton"](one)["config.pbtxt"]
    assert "max_queue_delay_microseconds: 5000" in SERVERS["triton"](one)["config.pbtxt"]
    assert documents(SERVERS["torchserve"](one)["model-config.yaml"])[0] == {
        "minWorkers": 2, "maxWorkers": 2, "batchSize": 8, "maxBatchDelay": 5
    }  # fmt: skip
    assert "batch_timeout_micros { value: 5000 }" in SERVERS["tf-serving"](one)["batching_parameters.txt"]
    batching = SERVERS["tf-serving"](replace(one, roles={**one.roles, "workers": 4}))["batching_parameters.txt"]
    assert "num_batch_threads { value: 4 }" in batching, "threads within a request are another thing"
    files = SERVERS["mlserver"](one)
    assert json.loads(files["model-settings.json"])["max_batch_time"] == 0.005
    assert json.loads(files["settings.json"])["parallel_workers"] == 2


def test_a_file_that_the_spec_renders_goes_as_it_is_and_servers_are_offered_where_they_run() -> None:
    one = example(files={"model/config.pbtxt": "name: 'mine'\n"}, command=("tritonserver",))
    assert SERVERS["triton"](one) == {"model/config.pbtxt": "name: 'mine'\n"}
    assert uses(one, "triton")
    assert "torchserve" not in offered({"": one})
    guesses = {"kubedl", "ray-serve", "leader-worker-set", "vllm", "sglang", "llm-inference-service"}
    assert set(offered({"": example()})) == set(FORMATS) - set(SERVERS) - guesses


def test_tritons_own_messages_read_its_file() -> None:
    pytest.importorskip("tritonclient", reason="pip install tritonclient[grpc] to have Triton's messages read it")
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    read = text_format.Parse(SERVERS["triton"](example(files={}))["config.pbtxt"], model_config_pb2.ModelConfig())
    assert read.max_batch_size == 8
    assert read.instance_group[0].count == 2


@pytest.mark.parametrize(
    "name", ["kubedl", "ray-serve", "vllm", "sglang", "llm-inference-service", "leader-worker-set"]
)
def test_what_would_be_a_guess_is_refused_with_what_is_missing(name: str) -> None:
    with pytest.raises(NotExportable) as refused:
        FORMATS[name](example())
    assert 1 <= len(str(refused.value).splitlines()) <= 3


def test_sizes_are_written_as_people_write_them_and_probes_are_apart() -> None:
    [found] = [
        one for one in documents(FORMATS["kubernetes"](example())["mini-lm-v2.yaml"]) if one["kind"] == "Deployment"
    ]
    container = found["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["memory"] == "2Gi"
    assert found["spec"]["template"]["spec"]["volumes"][1]["emptyDir"]["sizeLimit"] == "256Mi"
    patient, lively = container["startupProbe"], container["livenessProbe"]
    assert patient["periodSeconds"] * patient["failureThreshold"] >= 120
    assert lively["periodSeconds"] * lively["failureThreshold"] == 60
    assert container["readinessProbe"]["periodSeconds"] < lively["periodSeconds"]


def test_the_autoscalers_number_is_explained() -> None:
    text = FORMATS["kubernetes"](example())["mini-lm-v2.yaml"]
    before = text[: text.index("averageUtilization: 56")].splitlines()[-4:]
    assert "70.0 requests/s for each replica: the measured knee" in before[0]
    assert "uses 1.12 of the 2.00 cores that it requests: 56%" in before[2]


def test_an_autoscalers_number_that_had_to_be_raised_says_so() -> None:
    idle = example()
    idle = replace(idle, measured=replace(idle.measured, cores_used=0.05))
    text = FORMATS["kubernetes"](idle)["mini-lm-v2.yaml"]
    assert "averageUtilization: 10\n" in text
    assert "cores that it requests: 2%, written as 10%." in text
    assert "scale by requests per second instead" in text


def test_keda_scales_at_the_knee_by_the_servers_own_counter_or_by_its_cores() -> None:
    [found] = documents(FORMATS["keda"](runs_it("vllm", image="vllm:1"))["scaledobject.yaml"])
    [trigger] = found["spec"]["triggers"]
    assert trigger["metadata"]["threshold"] == "70"
    assert "vllm:request_success_total" in trigger["metadata"]["query"]
    [found] = documents(FORMATS["keda"](example())["scaledobject.yaml"])
    assert found["spec"]["triggers"] == [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "56"}}]
    with pytest.raises(NotExportable, match="something to scale by"):
        FORMATS["keda"](example(cores_used=None))


def test_keda_takes_over_the_autoscaler_that_the_deployment_was_exported_with() -> None:
    one = example()
    [found] = documents(FORMATS["keda"](one)["scaledobject.yaml"])
    scaler = documents(FORMATS["kubernetes"](one)["mini-lm-v2.yaml"])[-1]
    assert scaler["kind"] == "HorizontalPodAutoscaler"
    assert found["metadata"]["annotations"] == {"scaledobject.keda.sh/transfer-hpa-ownership": "true"}
    taken = found["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["name"]
    assert taken == scaler["metadata"]["name"]


@pytest.mark.parametrize("name", ["kubernetes", "kserve"])
def test_a_gpu_of_several_labels_may_have_any_of_them(name: str) -> None:
    labels = {"nvidia.com/gpu.product": ("NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-PCIE-40GB")}
    text = FORMATS[name](example(node_selector={}, node_labels=labels))["mini-lm-v2.yaml"]
    [found] = [one for document in documents(text) for one in _affinities(document)]
    assert found == {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": key, "operator": "In", "values": list(values)}]}
                    for key, values in labels.items()
                ]
            }
        }
    }
    assert "nodeSelector:" not in text
    assert name != "kserve" or "enable kubernetes.podspec-affinity" in text


def _affinities(part: Any) -> list[Any]:
    """Every `affinity` within."""
    inner = list(part.values()) if isinstance(part, dict) else part if isinstance(part, list) else []
    own = [part["affinity"]] if isinstance(part, dict) and "affinity" in part else []
    return own + [found for one in inner for found in _affinities(one)]


def test_knative_is_given_the_name_of_a_port_that_it_knows_and_no_probe_that_ends_a_server_that_loads() -> None:
    text = FORMATS["kserve"](example())["mini-lm-v2.yaml"]
    [server] = documents(text)[-1]["spec"]["predictor"]["containers"]
    assert (server["name"], server["ports"]) == ("kserve-container", [{"name": "http1", "containerPort": 8000}])
    assert {key for key in server if key.endswith("Probe")} == {"readinessProbe"}
    assert "enable kubernetes.podspec-nodeselector and kubernetes.podspec-tolerations" in text
    assert "podspec" not in FORMATS["kserve"](example(node_selector={}, tolerations=()))["mini-lm-v2.yaml"]


def test_replicas_are_told_of_where_the_file_has_them() -> None:
    one = example()
    assert one.qps == 450
    assert "replicas for 450 requests/s" in FORMATS["kubernetes"](one)["mini-lm-v2.yaml"]
    assert not [text for name in ("compose", "patch") for text in FORMATS[name](one).values() if "replicas for" in text]


def test_a_service_beside_it_sets_no_variables_of_the_server() -> None:
    [pod] = [
        one["spec"]["template"]["spec"] for one in documents(FORMATS["kubernetes"](example())["mini-lm-v2.yaml"])
        if one["kind"] == "Deployment"
    ]  # fmt: skip
    assert pod["enableServiceLinks"] is False
    [patch] = documents(FORMATS["patch"](example())["patch.yaml"])
    assert patch["spec"]["template"]["spec"]["enableServiceLinks"] is False
    values = FORMATS["helm-values"](example())["values.yaml"]
    assert "enableServiceLinks: false" in values
    assert "MINI_LM_V2_PORT" in values


def test_a_chart_scales_by_cores_only_where_their_use_was_measured() -> None:
    [found] = documents(FORMATS["helm-values"](example())["values.yaml"])
    assert found["livenessProbe"]["initialDelaySeconds"] == 120, "a server that loads for that long is let alone"
    assert (found["autoscaling"]["enabled"], found["autoscaling"]["targetCPUUtilizationPercentage"]) == (True, 56)
    [found] = documents(FORMATS["helm-values"](example(cores_used=None))["values.yaml"])
    assert found["autoscaling"]["enabled"] is False


def test_ray_is_told_the_applications_arguments_and_nothing_that_a_deployment_may_refuse() -> None:
    command = ("serve", "run", "--address=auto", "app:build", "max_batch=8", "model=a=b")
    [application] = documents(FORMATS["ray-serve"](example(command=command))["serve.yaml"])[0]["applications"]
    assert application["import_path"] == "app:build"
    assert application["args"] == {"max_batch": "8", "model": "a=b"}
    assert "user_config" not in application["deployments"][0]


def test_an_engines_options_keep_all_of_their_values_and_short_ones_are_refused() -> None:
    words = ("vllm", "serve", "org/m", "--lora-modules", "a=/x", "b=/y", "--seed", "-1", "--enforce-eager")
    [found] = documents(FORMATS["vllm"](runs_it("vllm", command=words))["vllm.yaml"])
    assert found == {"model": "org/m", "lora-modules": ["a=/x", "b=/y"], "seed": "-1", "enforce-eager": True}
    [kept] = documents(FORMATS["llm-inference-service"](runs_it("vllm", command=words, files={}))["mini-lm-v2.yaml"])
    [server] = kept["spec"]["template"]["containers"]
    assert server["env"][-1]["value"] == "--lora-modules a=/x b=/y --seed -1 --enforce-eager"
    for short in ("-tp", "-O3"):
        with pytest.raises(NotExportable, match=f"says {short}"):
            FORMATS["vllm"](runs_it("vllm", command=("vllm", "serve", "org/m", short, "2")))
    module = ("python", "-m", "vllm.entrypoints.openai.api_server", "--model", "org/m")
    assert documents(FORMATS["vllm"](runs_it("vllm", command=module))["vllm.yaml"]) == [{"model": "org/m"}]


def test_an_llm_inference_service_brings_the_claim_of_its_gpus_and_takes_no_files() -> None:
    request = {"deviceClassName": "gpu.nvidia.com", "allocationMode": "ExactCount", "count": 1}
    claim = {"spec": {"devices": {"requests": [{"name": "gpu", "exactly": request}]}}}
    one = runs_it("vllm", claim=claim, requests={}, files={})
    template, found = documents(FORMATS["llm-inference-service"](one)["mini-lm-v2.yaml"])
    pod = found["spec"]["template"]
    assert pod["resourceClaims"] == [{"name": "gpu", "resourceClaimTemplateName": template["metadata"]["name"]}]
    assert pod["containers"][0]["resources"] == {"claims": [{"name": "gpu"}]}
    with pytest.raises(NotExportable, match="takes no rendered files"):
        FORMATS["llm-inference-service"](runs_it("vllm"))


def test_an_engines_file_has_the_options_that_were_measured() -> None:
    [found] = documents(FORMATS["vllm"](runs_it("vllm"))["vllm.yaml"])
    assert found == {
        "model": "org/model", "host": "0.0.0.0", "port": "8000", "max-num-seqs": "64", "enforce-eager": True
    }  # fmt: skip
    [found] = documents(FORMATS["sglang"](runs_it("sglang"))["sglang.yaml"])
    assert found == {"model-path": "org/model", "port": "8000", "tp-size": "2"}
    [found] = documents(FORMATS["llm-inference-service"](runs_it("llm-inference-service"))["mini-lm-v2.yaml"])
    [server] = found["spec"]["template"]["containers"]
    assert {"name": "VLLM_ADDITIONAL_ARGS", "value": "--max-num-seqs 64 --enforce-eager"} in server["env"]
    assert found["spec"]["model"]["uri"] == "hf://org/model"
    with pytest.raises(NotExportable, match="serves the folder"):
        FORMATS["llm-inference-service"](runs_it("vllm", command=("vllm", "serve", "/models/a"), files={}))


def test_plain_json_has_numbers_where_yaml_has_quantities() -> None:
    found = json.loads(FORMATS["json"](example())["mini-lm-v2.json"])
    assert found["resources"]["memory_bytes"] == 2**31
    assert found["scaling"]["target_requests_per_second"] == 70.0
    assert found["resources"]["gpus"] == 1
    assert found["configuration"]["note"] == HOSTILE


SCHEMAS = Path(__file__).parent / "schemas"


@pytest.mark.parametrize(
    "name", ["kserve", "kubedl", "seldon", "keda", "leader-worker-set", "inference-pool", "llm-inference-service"]
)
def test_the_platforms_own_schemas_accept_it(name: str) -> None:
    [text] = FORMATS[name](runs_it(name)).values()
    [document] = [one for one in documents(text) if one["kind"] not in ("ConfigMap", "Service")]
    accepts(json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8")), document)


@pytest.mark.parametrize("name", ["kubernetes", "kserve", "kubedl", "seldon"])
def test_the_files_that_a_pod_mounts_come_with_it(name: str) -> None:
    [text] = FORMATS[name](runs_it(name)).values()
    [kept] = [one for one in documents(text) if one["kind"] == "ConfigMap"]
    assert "configMap:\n" in text
    assert text.count(f"name: {kept['metadata']['name']}\n") == 2


def test_a_schema_refuses_what_its_platform_does_not_know() -> None:
    kept = json.loads((SCHEMAS / "keda.json").read_text(encoding="utf-8"))
    document = documents(FORMATS["keda"](runs_it("keda"))["scaledobject.yaml"])[0]
    document["spec"]["minReplicas"] = 1
    with pytest.raises(jsonschema.ValidationError, match="minReplicas"):
        accepts(kept, document)


def accepts(kept: dict[str, Any], document: dict[str, Any]) -> None:
    """Whether a schema that is kept under `schemas` has all of the document, and Kubernetes the pods in it."""
    assert (document["apiVersion"], document["kind"]) == (kept["apiVersion"], kept["kind"])
    pods: list[dict[str, Any]] = []
    rest = _without_pods({key: one for key, one in document.items() if key != "metadata"}, kept["schema"], pods)
    jsonschema.validate(rest, _strict(kept["schema"]))
    import kubernetes_validate

    for spec in pods:
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}
        kubernetes_validate.validate(whole, RELEASES[-1], strict=True)


def _without_pods(value: Any, schema: Any, pods: list[dict[str, Any]]) -> Any:
    """The value as the schema has it; what are the fields of pods and containers there is added to `pods`."""
    if isinstance(value, list):
        return [_without_pods(one, schema.get("items", {}), pods) for one in value]
    if not isinstance(value, dict) or not isinstance(schema, dict):
        return value
    known = schema.get("properties", {})
    kind = schema.get("embeds")
    inside = {key: one for key, one in value.items() if kind and key not in known and key in fields_of(kind)}
    if inside and (kind == "pod" or "image" in inside):
        pods.append(inside if kind == "pod" else {"containers": [{"name": "a", **inside}]})
    return {
        key: _without_pods(one, known.get(key, schema.get("additionalProperties", {})), pods)
        for key, one in value.items()
        if key not in inside
    }


def _strict(schema: Any) -> Any:
    """The API server drops what a schema does not know; a manifest should have nothing of the kind."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _strict(value) for key, value in schema.items() if key != "format"}
    known = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if known and "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found["additionalProperties"] = False
    return found


def test_several_services_have_a_folder_each_and_only_the_formats_of_their_servers() -> None:
    triton = changed(example(files={}), service="rank", command=("tritonserver", "--model-repository", "/models"))
    both = {"embed": changed(example(files={}), service="embed"), "rank": triton}
    assert set(exported(both, "kubernetes")) == {"embed/embed.yaml", "rank/rank.yaml"}
    assert all(name.startswith("rank/") for name in exported(both, "triton"))
    assert exported({"embed": both["embed"]}, "triton") == {}


def test_services_that_compose_starts_together_have_a_port_and_files_each() -> None:
    both = {name: changed(example(), service=name) for name in ("embed", "rank")}
    files = exported(both, "compose")
    assert set(files) == {
        "compose.yaml", "embed/files/models/config.properties", "rank/files/models/config.properties"
    }  # fmt: skip
    services = documents(files["compose.yaml"])[0]["services"]
    assert [one["ports"] for one in services.values()] == [["127.0.0.1:8000:8000"], ["127.0.0.1:8001:8000"]]
    assert services["rank"]["volumes"] == ["./rank/files:/etc/tune:ro"]


def test_kubelets_expand_nothing_in_what_is_exported() -> None:
    one = example(command=("sh", "-c", "echo $(HOSTNAME) $HOME"), env={"A": "$(B)", "C": "a$$b", "D": "$5"})
    for name in ("kubernetes", "kserve", "seldon", "leader-worker-set"):
        text = next(iter(FORMATS[name](changed(one, files={})).values()))
        assert "echo $$(HOSTNAME) $$HOME" in text, name
        assert all(word in text for word in ("$$(B)", "a$$$$b", "$5")), name
    assert "echo $$(HOSTNAME) $$HOME" in FORMATS["helm-values"](one)["values.yaml"]
    assert json.loads(FORMATS["json"](one)["mini-lm-v2.json"])["command"][-1] == "echo $(HOSTNAME) $HOME"


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_every_format_asks_for_as_many_gpus_as_a_replica_has(count: int) -> None:
    import kubernetes_validate

    one = example(gpus=count, requests={"cpu": "2", "nvidia.com/gpu": str(count)})
    found = documents(FORMATS["kubernetes"](one)["mini-lm-v2.yaml"])
    for document in found:
        kubernetes_validate.validate(document, RELEASES[-1], strict=True)
    [deployment] = [document for document in found if document["kind"] == "Deployment"]
    [server] = deployment["spec"]["template"]["spec"]["containers"]
    assert server["resources"]["limits"]["nvidia.com/gpu"] == str(count)
    [service] = documents(FORMATS["compose"](one)["compose.yaml"])[0]["services"].values()
    [device] = service["deploy"]["resources"]["reservations"]["devices"]
    assert device["count"] == count
    rayed = changed(one, command=ENGINES["ray-serve"])
    [application] = documents(FORMATS["ray-serve"](rayed)["serve.yaml"])[0]["applications"]
    assert application["deployments"][0]["ray_actor_options"]["num_gpus"] == count
    assert str(count) in FORMATS["helm-values"](one)["values.yaml"].split("nvidia.com/gpu:")[1].splitlines()[0]


@pytest.mark.parametrize(
    "command", [("uvicorn", "main:app"), ("python", "server.py", "--addr", "0.0.0.0:80"), ("serve", "run", "a.yaml")]
)
def test_ray_serve_does_not_take_another_servers_application_for_its_own(command: tuple[str, ...]) -> None:
    with pytest.raises(NotExportable, match="needs an import path"):
        FORMATS["ray-serve"](example(command=command))


@pytest.mark.parametrize("low", [0.05, 4.2, 95.0, 123456.0])
def test_kedas_threshold_is_a_number_to_it(low: float) -> None:
    one = runs_it("vllm", image="vllm:1", knee_qps=None, capacity=Estimate(value=low, low=low, high=low))
    [found] = documents(FORMATS["keda"](one)["scaledobject.yaml"])
    assert float(found["spec"]["triggers"][0]["metadata"]["threshold"]) == pytest.approx(one.target_qps, rel=1e-4)


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"keda"}))
def test_a_best_effort_service_is_exported_once_and_without_an_autoscaler(name: str) -> None:
    nothing = {"capacity": Estimate.exactly(0.0), "knee_qps": None, "cores_used": 1.0}
    one = runs_it(name, **nothing)
    assert (one.replicas, one.min_replicas, one.max_replicas, one.cores_used_at_target) == (1, 1, 1, 0.0)
    text = "".join(FORMATS[name](one).values())
    assert "holds 0" not in text
    for word in ("HorizontalPodAutoscaler", "scaleMetric", "autoScale:", "rps is"):
        assert word not in text
    with pytest.raises(NotExportable, match="keda needs a rate to scale by"):
        FORMATS["keda"](runs_it("vllm", **nothing))


def test_the_head_of_a_best_effort_service_says_so() -> None:
    one = example(capacity=Estimate.exactly(0.0))
    assert "runs best effort, with what the services beside it leave" in header(one)
