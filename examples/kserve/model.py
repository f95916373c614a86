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
    """`{"instances": [[64 pixels from 0 to 1], ...]}` is answered with `{"predictions": [digit, ...]}`."""

    def __init__(self) -> None:
        super().__init__("digits")
        self.ready = self.load()

    def load(self) -> bool:
        self.model = joblib.load(Path(__file__).parent / "digits.joblib")
        self.said = 0
        return True

    async def predict(self, payload: dict[str, Any], headers: Any = None, response_headers: Any = None) -> Any:  # noqa: ARG002
        return await asyncio.to_thread(self._predict, payload)

    def _predict(self, payload: dict[str, Any]) -> dict[str, Any]:
        if self.said != os.getpid():  # KServe's workers are forked with the model in them
            self.said = os.getpid()
            threads = max((pool["num_threads"] for pool in threadpool_info()), default=1)
            print(f"digits: worker in process {self.said}, {threads} threads", flush=True)
        pixels = np.asarray(payload["instances"], dtype=np.float32)
        return {"predictions": [int(digit) for digit in self.model.predict(pixels)]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
    parser.parse_known_args()
    kserve.ModelServer().start([Digits()])
