"""The digits' classifier as a runtime of MLServer."""

from __future__ import annotations

import os
from pathlib import Path

import joblib
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from threadpoolctl import threadpool_info


class Digits(MLModel):
    """The input `pixels`, of shape [n, 64], becomes the output `digit`, of shape [n, 1]."""

    async def load(self) -> bool:
        self.model = joblib.load(Path(__file__).parent / "digits.joblib")
        self.max_batch = 0
        threads = max((pool["num_threads"] for pool in threadpool_info()), default=1)
        print(f"digits: worker in process {os.getpid()}, {threads} threads", flush=True)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One call for a batch: MLServer joins the requests, and splits the answer."""
        pixels = NumpyCodec.decode_input(payload.inputs[0])
        if len(pixels) > self.max_batch:
            self.max_batch = len(pixels)
            print(f"digits: a batch of {self.max_batch}", flush=True)
        digits = self.model.predict(pixels.astype(np.float32)).astype(np.int64).reshape(-1, 1)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("digit", digits)])
