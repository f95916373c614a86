"""What comes before the classifier: a picture's grey values, whatever their range, as the model was trained on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

_GREYS = 16.0  # of the digits' data set


class TritonPythonModel:
    """Triton makes one for each instance."""

    def initialize(self, args: dict[str, Any]) -> None:
        print(f"scale: instance {args['model_instance_name']}", flush=True)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Each picture by itself."""
        answers = []
        for one in requests:
            image = pb_utils.get_input_tensor_by_name(one, "image").as_numpy()
            largest = np.maximum(image.max(axis=1, keepdims=True), 1e-9)
            pixels = (image / largest * _GREYS).astype(np.float32)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("pixels", pixels)]))
        return answers
