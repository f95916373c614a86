"""The digits' network as a LitAPI."""

import os
import sys
from pathlib import Path
from typing import Any

import litserve
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "digits"))
from digits_net import network  # noqa: E402


class DigitsAPI(litserve.LitAPI):
    """`{"pixels": [64 numbers from 0 to 1]}` is answered with `{"digit": 7}`."""

    def setup(self, device: str) -> None:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        self.model = network().to(device)
        self.model.load_state_dict(torch.load(HERE / "model.pt", map_location=device, weights_only=True))
        self.model.eval()
        self.max_batch = 0
        print(f"digits: worker in process {os.getpid()}, {torch.get_num_threads()} threads", flush=True)

    def decode_request(self, request: dict[str, Any]) -> torch.Tensor:
        return torch.tensor(request["pixels"], dtype=torch.float32)

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Called where batches may be larger than one."""
        if len(inputs) > self.max_batch:
            self.max_batch = len(inputs)
            print(f"digits: a batch of {self.max_batch}", flush=True)
        return torch.stack(inputs)

    @torch.inference_mode()
    def predict(self, images: torch.Tensor) -> Any:
        many = images.dim() == 2
        digits = self.model(images if many else images[None]).argmax(1).tolist()
        return digits if many else digits[0]

    def unbatch(self, output: list[int]) -> list[int]:
        return output

    def encode_response(self, output: int) -> dict[str, int]:
        return {"digit": output}
