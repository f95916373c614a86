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
    """`{"instances": [[64 numbers from 0 to 1]]}` to /predict, a batch of its own, is answered with `[7]`."""

    def __init__(self) -> None:
        self.model = joblib.load(HERE / "digits.joblib")
        self.largest = 0
        threads = max((one["num_threads"] for one in threadpool_info()), default=1)
        print(f"digits: worker in process {os.getpid()}, {threads} threads", flush=True)

    @bentoml.api(
        batchable=True,
        max_batch_size=int(os.environ.get("BATCH_SIZE", "8")),
        max_latency_ms=int(os.environ.get("MAX_LATENCY_MS", "60000")),
    )
    def predict(self, instances: np.ndarray) -> list[int]:
        if len(instances) > self.largest:
            self.largest = len(instances)
            print(f"digits: a batch of {self.largest}", flush=True)
        return self.model.predict(instances.astype(np.float32)).tolist()
