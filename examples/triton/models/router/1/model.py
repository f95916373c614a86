"""The same pipeline as business logic (BLS): code that asks the other models, and could choose between them."""

from __future__ import annotations

from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """Triton makes one for each instance."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """One after the other; what they ask may be batched with what other instances ask."""
        return [self._one(pb_utils.get_input_tensor_by_name(one, "image")) for one in requests]

    def _one(self, image: Any) -> Any:
        scaled = _asked("scale", "pixels", image)
        digit = _asked("digits", "digit", pb_utils.Tensor("pixels", scaled.as_numpy()))
        return pb_utils.InferenceResponse([pb_utils.Tensor("digit", digit.as_numpy())])


def _asked(model: str, output: str, given: Any) -> Any:
    answer = pb_utils.InferenceRequest(model_name=model, requested_output_names=[output], inputs=[given]).exec()
    if answer.has_error():
        raise pb_utils.TritonModelException(answer.error().message())
    return pb_utils.get_output_tensor_by_name(answer, output)
