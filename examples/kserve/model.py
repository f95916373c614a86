"""The digits' classifier behind KServe's Python server."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import Any

import joblib
import kserve
import numpy as np
from threadpoolctl import threadpool_info


class Digits(kserve.Model):
    """`{"instances": [[64 pixels from 0 to 1], ...]}` is answered with `{"predictions": [digit, ...]}`.

    Asked by V2, over HTTP or gRPC, its first input holds the pixels, and its output the digits.
    """

    def __init__(self) -> None:
        super().__init__("digits")
        self.ready = self.load()

    def load(self) -> bool:
        self.model = joblib.load(Path(__file__).parent / "digits.joblib")
        self.said = 0
        return True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:  # noqa: ARG002
        if not isinstance(payload, kserve.InferRequest):
            digits = await asyncio.to_thread(self._digits, payload["instances"])
            return {"predictions": digits.tolist()}
        digits = await asyncio.to_thread(self._digits, payload.inputs[0].as_numpy())
        output = kserve.InferOutput("digits", list(digits.shape), "INT64")
        output.set_data_from_numpy(digits, binary_data=False)
        return kserve.InferResponse(payload.id or "", self.name, [output])

    def _digits(self, pixels: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
        if self.said != os.getpid():  # KServe's workers are forked with the model in them
            self.said = os.getpid()
            threads = max((pool["num_threads"] for pool in threadpool_info()), default=1)
            print(f"digits: worker in process {self.said}, {threads} threads", flush=True)
        return self.model.predict(np.asarray(pixels, dtype=np.float32)).astype(np.int64)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
    parser.parse_known_args()
    kserve.ModelServer().start([Digits()])
