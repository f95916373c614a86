"""Handwritten digits on Mosec, a server without an adapter."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from mosec import Server, Worker


class Digits(Worker):
    """`{"pixels": [64 numbers from 0 to 1]}` is answered with `{"digit": 7}`."""

    def __init__(self) -> None:
        self.model = joblib.load(Path(__file__).parent / "digits.joblib")

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, int]]:
        """One call for a batch."""
        digits = self.model.predict(np.asarray([one["pixels"] for one in data], dtype=np.float32))
        return [{"digit": int(digit)} for digit in digits]


if __name__ == "__main__":
    server = Server()
    batch, delay = int(os.environ["BATCH"]), int(os.environ["DELAY_MS"])
    server.append_worker(Digits, num=int(os.environ["WORKERS"]), max_batch_size=batch, max_wait_time=delay)
    server.run()
