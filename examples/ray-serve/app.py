"""The digits' classifier on Ray Serve."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from ray import serve
from starlette.requests import Request
from threadpoolctl import threadpool_info


@serve.deployment
class Digits:
    """`{"pixels": [64 numbers from 0 to 1]}` is answered with `{"digit": 7}`."""

    def __init__(self) -> None:
        self.model = joblib.load(Path(__file__).parent / "digits.joblib")
        self.max_batch = 0

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Ray calls it with the deployment's user_config, when it starts and when that is changed."""
        self.predict.set_max_batch_size(config.get("max_batch_size", 1))
        self.predict.set_batch_wait_timeout_s(config.get("batch_wait_timeout_s", 0.0))
        threads = max((pool["num_threads"] for pool in threadpool_info()), default=1)
        print(f"digits: replica in process {os.getpid()}, {threads} threads, {config}", flush=True)

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=0.0)
    async def predict(self, images: list[list[float]]) -> list[int]:
        """One call for a batch."""
        if len(images) > self.max_batch:
            self.max_batch = len(images)
            print(f"digits: a batch of {self.max_batch}", flush=True)
        return [int(digit) for digit in self.model.predict(np.asarray(images, dtype=np.float32))]

    async def __call__(self, request: Request) -> dict[str, int]:
        return {"digit": await self.predict((await request.json())["pixels"])}


digits = Digits.bind()  # type: ignore[attr-defined]
