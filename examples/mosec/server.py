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

    def forward(self, data: Any) -> Any:
        """One call for a batch; where a batch is one request, for that alone."""
        many = data if isinstance(data, list) else [data]
        digits = self.model.predict(np.asarray([one["pixels"] for one in many], dtype=np.float32))
        answers = [{"digit": int(digit)} for digit in digits]
        return answers if isinstance(data, list) else answers[0]


if __name__ == "__main__":
    server = Server()
    batch, delay = int(os.environ["BATCH"]), int(os.environ["DELAY_MS"])
    server.append_worker(Digits, num=int(os.environ["WORKERS"]), max_batch_size=batch, max_wait_time=delay)
    server.run()
