"""The digits on ONNX Runtime. The session is opened by the variables of `server: onnxruntime`."""

import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "digits"))
from batched import application  # noqa: E402

_LEVELS = {"all": "ORT_ENABLE_ALL", "extended": "ORT_ENABLE_EXTENDED", "basic": "ORT_ENABLE_BASIC"}


def opened() -> ort.InferenceSession:
    """What the session itself says of its options is printed."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("ORT_INTRA_OP_THREADS", "1"))
    options.inter_op_num_threads = int(os.environ.get("ORT_INTER_OP_THREADS", "1"))
    level = _LEVELS[os.environ.get("ORT_GRAPH_OPTIMIZATION", "all")]
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    session = ort.InferenceSession(HERE / "digits.onnx", options, providers=["CPUExecutionProvider"])
    held = session.get_session_options()
    print(
        f"digits: worker in process {os.getpid()}, {held.intra_op_num_threads} threads, "
        f"graph optimization {held.graph_optimization_level.name}",
        flush=True,
    )
    return session


session = opened()


def scores(images: np.ndarray) -> np.ndarray:
    return session.run(["scores"], {"pixels": images})[0]


app = application(scores)
