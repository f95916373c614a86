"""Requests of the V2 inference protocol for gRPC, from the JSON that they have over HTTP.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_grpc.md

Tensors go as raw bytes, in the order of the inputs, which every type has a form for (16-bit floats have no other).
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import unquote

import numpy as np

from loadtest.request.request_check import PlanError

METHOD = "/inference.GRPCInferenceService/ModelInfer"
_PATH = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?/infer")
_TYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


def infer_request(path: str, body: bytes) -> bytes:
    """A ModelInferRequest, serialized. Raises PlanError for a path or a body that is not of the protocol."""
    found = _PATH.fullmatch(path)
    if found is None:
        raise PlanError(f"request.path: {path!r} is not of the form /v2/models/NAME/infer, which gRPC needs")
    try:
        asked = json.loads(body)
        message = _message()(
            model_name=unquote(found["name"]), model_version=found["version"] or "", id=asked.get("id", "")
        )
        _fill(message.parameters, asked)
        for one in asked["inputs"]:
            values = list(_flat(one["data"]))
            shape = [int(size) for size in one["shape"]]
            tensor = message.inputs.add(name=one["name"], datatype=one["datatype"], shape=shape)
            _fill(tensor.parameters, one)
            message.raw_input_contents.append(_raw(one["datatype"], values))
        for one in asked.get("outputs") or ():
            _fill(message.outputs.add(name=one["name"]).parameters, one)
    except PlanError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise PlanError(f"request: the body is no request of the V2 protocol: {why}") from error
    return bytes(message.SerializeToString())


def _flat(data: Any) -> Iterator[Any]:
    """A tensor is written flat or nested, row by row."""
    if isinstance(data, list):
        for one in data:
            yield from _flat(one)
    else:
        yield data


def _raw(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        texts = [str(value).encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    if datatype == "BF16":  # the upper half of a 32-bit float
        return (np.asarray(values, dtype="<f4").view("<u4") >> 16).astype("<u2").tobytes()
    if datatype not in _TYPES:
        raise PlanError(f"request: there is no type {datatype!r}; there are {', '.join((*_TYPES, 'BF16', 'BYTES'))}")
    kind = np.dtype(_TYPES[datatype])
    if kind.kind in "iu" and any(not np.iinfo(kind).min <= value <= np.iinfo(kind).max for value in values):
        raise OverflowError(f"a value is out of bounds for {datatype}")  # NumPy before 2 takes another number for it
    return np.asarray(values, dtype=kind).tobytes()


def _fill(parameters: Any, asked: dict[str, Any]) -> None:
    """The protocol's parameters: truth values, whole numbers, texts and other numbers."""
    for name, value in (asked.get("parameters") or {}).items():
        kinds = ((bool, "bool_param"), (int, "int64_param"), (str, "string_param"), (float, "double_param"))
        kind = next((field for type_, field in kinds if isinstance(value, type_)), None)
        if kind is None:
            raise PlanError(f"request: the parameter {name} is {value!r}, which gRPC has no form for")
        setattr(parameters[name], kind, value)


@cache
def _message() -> Any:
    """The class of a ModelInferRequest, with the protocol's names and numbers."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    text, size, raw = field.TYPE_STRING, field.TYPE_INT64, field.TYPE_BYTES
    file = descriptor_pb2.FileDescriptorProto(name="tune/v2.proto", package="tune", syntax="proto3")

    def message(title: str, /, **fields: tuple[int, Any, bool]) -> Any:
        """Fields by name: their numbers, a type or another message's name, and whether there may be several."""
        made = file.message_type.add(name=title)
        for key, (number, kind, repeated) in fields.items():
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if isinstance(kind, str):
                made.field.add(name=key, number=number, label=label, type=field.TYPE_MESSAGE, type_name=f".tune.{kind}")
            else:
                made.field.add(name=key, number=number, label=label, type=kind)
        return made

    parameter = message(
        "InferParameter", bool_param=(1, field.TYPE_BOOL, False), int64_param=(2, size, False),
        string_param=(3, text, False), double_param=(4, field.TYPE_DOUBLE, False),
    )  # fmt: skip
    parameter.oneof_decl.add(name="parameter_choice")
    for one in parameter.field:
        one.oneof_index = 0
    tensor = message("InferInputTensor", name=(1, text, False), datatype=(2, text, False), shape=(3, size, True))
    output = message("InferRequestedOutputTensor", name=(1, text, False))
    request = message(
        "ModelInferRequest", model_name=(1, text, False), model_version=(2, text, False), id=(3, text, False),
        inputs=(5, "InferInputTensor", True), outputs=(6, "InferRequestedOutputTensor", True),
        raw_input_contents=(7, raw, True),
    )  # fmt: skip
    for owner, number in ((tensor, 4), (output, 2), (request, 4)):
        entry = owner.nested_type.add(name="ParametersEntry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=field.LABEL_OPTIONAL, type=text)
        entry.field.add(
            name="value",
            number=2,
            label=field.LABEL_OPTIONAL,
            type=field.TYPE_MESSAGE,
            type_name=".tune.InferParameter",
        )
        owner.field.add(
            name="parameters", number=number, label=field.LABEL_REPEATED, type=field.TYPE_MESSAGE,
            type_name=f".tune.{owner.name}.ParametersEntry",
        )  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tune.ModelInferRequest"))
