"""The V2 inference protocol over HTTP, which Triton, MLServer and KServe speak.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, ClassVar

import httpx

from runners.host.bounded_http import bounded_get
from runners.servers.protocol import AdapterError, Model, ServerAdapter, ServerAddress, ServerRequest, Tensor

_BODIES = 32  # different ones, so that no cache answers
_UNKNOWN_SIZE = 1  # of a dimension that may have any: a batch of one, a sequence of one
_FLOATS, _WHOLES = (
    ("FP16", "BF16", "FP32", "FP64"),
    ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"),
)
_WORDS = ("the", "server", "answers", "a", "short", "question", "about", "its", "own", "speed")


class V2Server(ServerAdapter):
    """A server that speaks the protocol, and says by it what its models take. `halves_by_grpc`: its JSON has no floats
    of 16 bits.
    """

    halves_by_grpc: ClassVar[bool] = False

    def ready_path(self, model: Model) -> str:
        """The model's path: the server itself is ready before a model that loads slowly."""
        return f"/v2/models/{model.quoted}/ready"

    def request(self, model: Model) -> ServerRequest:
        """An inference."""
        made = self._made(model, model.inputs) if model.inputs else ()
        return ServerRequest(f"/v2/models/{model.quoted}/infer", made)

    def bodies(self, reach: ServerAddress, model: Model) -> tuple[bytes, ...]:
        """Request bodies made from the model's metadata."""
        return self._made(model, described(reach, model))

    def _made(self, model: Model, inputs: Sequence[Tensor]) -> tuple[bytes, ...]:
        half = next((one for one in inputs if one.datatype in ("FP16", "BF16")), None)
        if half is not None and self.halves_by_grpc and not model.grpc:
            said = f"{self.title} takes {half.name} ({half.datatype}) by gRPC alone: write request: {{protocol: grpc}}"
            raise AdapterError(said, ("service", "model", "inputs"))
        return bodies(inputs)


def bodies(inputs: Sequence[Tensor]) -> tuple[bytes, ...]:
    """Requests with random data of the inputs' shapes, always the same ones."""
    generator = random.Random(0)  # noqa: S311 (not for secrets)
    return tuple(json.dumps({"inputs": [_input(one, generator) for one in inputs]}).encode() for _ in range(_BODIES))


def described(reach: ServerAddress, model: Model) -> list[Tensor]:
    """The inputs, from the metadata that the server publishes. Raises AdapterError where it says too little."""
    found = get_json(reach.url, f"/v2/models/{model.quoted}")
    try:
        inputs = [
            Tensor(str(one["name"]), str(one["datatype"]), tuple(int(size or -1) for size in one["shape"]))
            for one in found.get("inputs") or ()
            if one.get("shape")
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        inputs = []
    if not inputs:
        raise AdapterError(
            f"the server does not say what {model.name} takes; give service.model.inputs or request.dataset"
        )
    return inputs


def get_json(url: str, path: str, timeout_s: float = 10.0) -> dict[str, Any]:
    """Raises AdapterError with what was answered instead."""
    try:
        answer = bounded_get(url + path, timeout_s=timeout_s)
        found = answer.json() if answer.is_success else None
    except (httpx.HTTPError, ValueError, RecursionError) as error:
        raise AdapterError(f"the server answers nothing that can be read at {path}: {error}") from error
    if not isinstance(found, dict):
        raise AdapterError(f"the server answers {answer.status_code} at {path}: {answer.text[:200]}")
    return found


def _input(tensor: Tensor, generator: random.Random) -> dict[str, Any]:
    shape = [size if size > 0 else _UNKNOWN_SIZE for size in tensor.shape]
    count = 1
    for size in shape:
        count *= size
    return {
        "name": tensor.name, "shape": shape, "datatype": tensor.datatype,
        "data": [_value(tensor.datatype, generator) for _ in range(count)],
    }  # fmt: skip


def _value(datatype: str, generator: random.Random) -> float | int | bool | str:
    if datatype in _FLOATS:
        return round(generator.random(), 4)
    if datatype in _WHOLES:
        return generator.randrange(100)
    if datatype == "BOOL":
        return generator.random() < 0.5
    if datatype == "BYTES":
        return " ".join(generator.choices(_WORDS, k=8))
    known = ", ".join((*_FLOATS, *_WHOLES, "BOOL", "BYTES"))
    raise AdapterError(f"cannot make data of the type {datatype}; there are {known}",
                       ("service", "model", "inputs"))  # fmt: skip
