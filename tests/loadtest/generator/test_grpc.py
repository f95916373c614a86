"""V2 over gRPC: the messages are those of the protocol's own definition, and a real server is loaded by them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from loadtest import LatencyLimit, LoadGenerator, LoadPlan, PlanError, RequestPlan, Slo, infer_request
from loadtest.request.http_syntax import as_metadata
from loadtest.request.request_check import check_request
from runners.host.ports import Ports

SERVER = Path(__file__).parent.parent.parent / "servers" / "v2_grpc.py"
BODY = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [[1, 2, 3, 4.5]]}]}


def encoded(*inputs: dict[str, Any], path: str = "/v2/models/m/infer") -> Any:
    return service_pb2.ModelInferRequest.FromString(infer_request(path, json.dumps({"inputs": inputs}).encode()))


@pytest.mark.parametrize(
    ("datatype", "dtype", "data"),
    [
        ("BOOL", "?", [True, False]), ("UINT8", "u1", [0, 255]), ("INT8", "i1", [-128, 127]),
        ("UINT16", "<u2", [1, 65535]), ("INT16", "<i2", [-5, 5]), ("UINT32", "<u4", [1, 2**32 - 1]),
        ("INT32", "<i4", [-7, 7]), ("UINT64", "<u8", [0, 2**64 - 1]), ("INT64", "<i8", [-(2**63), 2**63 - 1]),
        ("FP16", "<f2", [0.5, -2.25]), ("FP32", "<f4", [0.1, 2.0]), ("FP64", "<f8", [0.1, 1e300]),
    ],
)  # fmt: skip
def test_tensors_arrive_as_they_were(datatype: str, dtype: str, data: list[Any]) -> None:
    message = encoded({"name": "x", "shape": [2], "datatype": datatype, "data": data})
    assert np.frombuffer(message.raw_input_contents[0], dtype=dtype).tolist() == np.array(data, dtype=dtype).tolist()
    assert (message.inputs[0].name, message.inputs[0].datatype, list(message.inputs[0].shape)) == ("x", datatype, [2])


def test_texts_half_floats_versions_and_several_inputs() -> None:
    message = encoded(
        {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["né", ""]},
        {"name": "half", "shape": [2, 1], "datatype": "BF16", "data": [[1.0], [-3.5]]},
        path="/v2/models/two%20%C3%BC/versions/3/infer",
    )
    assert (message.model_name, message.model_version) == ("two ü", "3")
    assert message.raw_input_contents[0] == b"\x03\x00\x00\x00n\xc3\xa9\x00\x00\x00\x00"
    upper = np.frombuffer(message.raw_input_contents[1], dtype="<u2").astype("<u4") << 16
    assert upper.view("<f4").tolist() == [1.0, -3.5]


def test_parameters_and_outputs_travel_too() -> None:
    body = {
        "id": "7", "parameters": {"sequence_id": 12, "priority": 0.5},
        "inputs": [
            {"name": "x", "shape": [1], "datatype": "BYTES", "data": ["a"], "parameters": {"content_type": "str"}}
        ],
        "outputs": [{"name": "y", "parameters": {"binary_data": False}}],
    }  # fmt: skip
    message = service_pb2.ModelInferRequest.FromString(infer_request("/v2/models/m/infer", json.dumps(body).encode()))
    assert (message.id, message.parameters["sequence_id"].int64_param) == ("7", 12)
    assert message.inputs[0].parameters["content_type"].string_param == "str"
    assert message.outputs[0].name == "y"
    assert message.outputs[0].parameters["binary_data"].WhichOneof("parameter_choice") == "bool_param"


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/predict", "{}", "is not of the form /v2/models/NAME/infer"),
        ("/v2/models/m/infer", "[]", "no request of the V2 protocol"),
        ("/v2/models/m/infer", "{}", "it has no 'inputs'"),
        ("/v2/models/m/infer", '{"inputs": [{"name": "x", "shape": [1], "datatype": "FP9", "data": [1]}]}', "'FP9'"),
        ("/v2/models/m/infer", '{"inputs": [{"name": "x", "shape": [1], "datatype": "INT8", "data": [999]}]}', "V2"),
    ],
)
def test_what_is_no_request_is_said(path: str, body: str, said: str) -> None:
    with pytest.raises(PlanError) as caught:
        infer_request(path, body.encode())
    assert said in str(caught.value)


def test_headers_travel_as_metadata() -> None:
    given = {"X-Key": "a b", "Trace-bin": "AP8", "grpc.tag": ""}
    assert as_metadata(given) == (("x-key", "a b"), ("trace-bin", b"\x00\xff"), ("grpc.tag", ""))


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"x!key": "a"}, "'x!key' is no key of gRPC's metadata"),
        ({"x-name": "sécret"}, "'x-name' holds what is not ASCII.*x-name-bin"),
        ({"x-trace-bin": "sécret"}, "'x-trace-bin' is bytes to gRPC"),
        ({"x-trace-bin": "a*b="}, "'x-trace-bin' is bytes to gRPC"),
    ],
)
def test_headers_that_grpc_has_no_form_for_are_refused_before_any_request(headers: dict[str, str], said: str) -> None:
    request = RequestPlan(protocol="v2-grpc", path="/v2/models/sums/infer", body=json.dumps(BODY), headers=headers)
    with pytest.raises(PlanError, match=said) as caught:
        check_request(plan("http://127.0.0.1:1", request=request))
    assert "sécret" not in str(caught.value)


@pytest.fixture
def url(needs_machine: None) -> Iterator[str]:
    """A server that takes 5 ms a request, one after the other."""
    port = Ports().take()
    with subprocess.Popen([sys.executable, str(SERVER), "--port", str(port)], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        yield f"http://127.0.0.1:{port}"
        server.kill()


def plan(url: str, **changes: Any) -> LoadPlan:
    request = RequestPlan(protocol="v2-grpc", path="/v2/models/sums/infer", body=json.dumps(BODY))
    slo = Slo(latency=(LatencyLimit(percentile=99, limit_ms=100),), error_rate=0.01)
    asked: dict[str, Any] = {"url": url, "request": request, "slo": slo, "max_s": 15.0, "max_warmup_s": 3.0}
    return LoadPlan(**asked | changes)


def test_a_real_server_is_loaded_to_its_capacity(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # which is not asked
    with LoadGenerator() as generator:
        found = generator.measure(plan(url), lambda _: None)
    assert found.outcome == "measured", found.reason
    assert found.capacity_qps is not None
    # It takes a little more than 5 ms: below 200 requests/s, and a p99 of 100 ms is held up to about nine tenths of it.
    assert 110 < found.capacity_qps.value < 200
    assert found.error_rate == 0


@pytest.mark.parametrize(
    ("model", "said"),
    [("other", "grpc not found"), ("sums/versions/9", "grpc unavailable: Exceeds maximum queue size")],
)
def test_a_server_that_refuses_is_quoted_by_its_status(url: str, model: str, said: str) -> None:
    other = RequestPlan(protocol="v2-grpc", path=f"/v2/models/{model}/infer", body=json.dumps(BODY))
    with LoadGenerator() as generator:
        found = generator.measure(plan(url, request=other), lambda _: None)
    assert found.outcome == "infeasible"
    assert said in found.reason


@pytest.mark.usefixtures("needs_machine")
def test_nobody_at_the_port_is_refused() -> None:
    with LoadGenerator() as generator:
        found = generator.measure(plan("http://127.0.0.1:9", max_s=5.0), lambda _: None)
    assert found.outcome == "infeasible"
    assert "connection refused" in found.reason
