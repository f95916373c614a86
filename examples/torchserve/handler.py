"""The digits' network as a TorchServe handler."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from digits_net import network


class Digits:
    """`{"pixels": [64 numbers from 0 to 1]}` is answered with `{"digit": 7}`."""

    def initialize(self, context: Any) -> None:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        self.model = network()
        folder = Path(context.system_properties["model_dir"])
        self.model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
        self.model.eval()
        self.max_batch = 0
        print(f"digits: worker in process {os.getpid()}, {torch.get_num_threads()} threads", flush=True)

    @torch.inference_mode()
    def handle(self, requests: list[dict[str, Any]], context: Any) -> list[dict[str, int]]:  # noqa: ARG002
        """One call for all the requests that TorchServe has put into a batch."""
        if len(requests) > self.max_batch:
            self.max_batch = len(requests)
            print(f"digits: a batch of {self.max_batch}", flush=True)
        bodies = [one.get("body") or one.get("data") for one in requests]
        parsed = [json.loads(one) if isinstance(one, (bytes, bytearray, str)) else one for one in bodies]
        digits = self.model(torch.tensor([one["pixels"] for one in parsed])).argmax(1).tolist()
        return [{"digit": digit} for digit in digits]
