"""The digits as a BentoML service."""

import os
from pathlib import Path

import bentoml
import joblib
import numpy as np
from threadpoolctl import threadpool_info

HERE = Path(__file__).parent


@bentoml.service
class Digits:
    """`{"pixels": [64 numbers from 0 to 1]}` to /predict is answered with a digit."""

    def __init__(self) -> None:
        self.model = joblib.load(HERE / "digits.joblib")
        self.largest = 0
        threads = max((one["num_threads"] for one in threadpool_info()), default=1)
        print(f"digits: worker in process {os.getpid()}, {threads} threads", flush=True)

    @bentoml.api(
        batchable=True,
        max_batch_size=int(os.environ.get("BATCH_SIZE", "1")),
        max_latency_ms=int(os.environ.get("MAX_LATENCY_MS", "60000")),
    )
    def predict(self, pixels: np.ndarray) -> list[int]:
        if len(pixels) > self.largest:
            self.largest = len(pixels)
            print(f"digits: a batch of {self.largest}", flush=True)
        return self.model.predict(pixels.astype(np.float32)).tolist()
