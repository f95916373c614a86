"""The digits on OpenVINO's runtime. The model is compiled by the variables of `server: openvino`."""

import os
import sys
from pathlib import Path

import numpy as np
import openvino as ov

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "digits"))
from batched import application  # noqa: E402

_VARIABLES = {
    "INFERENCE_NUM_THREADS": "OV_INFERENCE_NUM_THREADS", "NUM_STREAMS": "OV_NUM_STREAMS",
    "PERFORMANCE_HINT": "OV_PERFORMANCE_HINT", "INFERENCE_PRECISION_HINT": "OV_INFERENCE_PRECISION",
}  # fmt: skip


def compiled() -> ov.CompiledModel:
    """What the compiled model itself says of its properties is printed."""
    asked = {name: os.environ[variable] for name, variable in _VARIABLES.items() if variable in os.environ}
    model = ov.Core().compile_model(HERE / "digits.onnx", "CPU", asked)
    print(
        f"digits: worker in process {os.getpid()}, {model.get_property('INFERENCE_NUM_THREADS')} threads, "
        f"{model.get_property('NUM_STREAMS')} streams, hint {model.get_property('PERFORMANCE_HINT')}",
        flush=True,
    )
    return model


model = compiled()


def scores(images: np.ndarray) -> np.ndarray:
    return model.create_infer_request().infer({"pixels": images})["scores"]


app = application(scores, copies=int(model.get_property("NUM_STREAMS")))
