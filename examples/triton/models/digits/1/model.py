"""The digits' classifier for Triton's Python backend."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]
from threadpoolctl import threadpool_info


class TritonPythonModel:
    """Triton makes one for each instance."""

    def initialize(self, args: dict[str, Any]) -> None:
        self.model = joblib.load(Path(__file__).parent / "digits.joblib")
        self.max_batch = 0
        threads = max((pool["num_threads"] for pool in threadpool_info()), default=1)
        print(f"digits: instance {args['model_instance_name']} in process {os.getpid()}, {threads} threads", flush=True)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One call for all the requests that Triton has put into a batch."""
        pixels = [pb_utils.get_input_tensor_by_name(one, "pixels").as_numpy() for one in requests]
        digits = self.model.predict(np.concatenate(pixels)).astype(np.int64).reshape(-1, 1)
        if len(digits) > self.max_batch:
            self.max_batch = len(digits)
            print(f"digits: a batch of {self.max_batch}", flush=True)
        ends = np.cumsum([len(one) for one in pixels])
        parts = [part.copy() for part in np.split(digits, ends[:-1])]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("digit", part)]) for part in parts]
