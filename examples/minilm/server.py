"""Sentence embeddings over HTTP: all-MiniLM-L6-v2 behind LitServe with dynamic batching.

    python server.py --port 8000 --threads 1 --max-batch 8 --batch-delay-ms 5 --workers 1

POST /embed {"text": "..."} answers {"embedding": [384 floats]}; GET /healthz answers 200 when all workers have loaded.
"""

from __future__ import annotations

import argparse
from typing import Any

import litserve
import torch
from model import Embedder


class EmbeddingAPI(litserve.LitAPI):
    """LitServe calls `setup` once in every worker, and `predict` with a list of texts where batches are allowed."""

    def __init__(self, threads: int, max_batch: int, batch_delay_ms: float) -> None:
        super().__init__(max_batch_size=max_batch, batch_timeout=batch_delay_ms / 1e3, api_path="/embed")
        self.threads, self.batches = threads, max_batch > 1

    def setup(self, device: str) -> None:  # noqa: ARG002 (LitServe's signature)
        torch.set_num_threads(self.threads)
        self.embedder = Embedder()

    def decode_request(self, request: dict[str, str], **_: Any) -> str:
        return request["text"]

    def predict(self, x: Any, **_: Any) -> Any:
        return self.embedder.embed(x) if self.batches else self.embedder.embed([x])[0]

    def encode_response(self, output: list[float], **_: Any) -> dict[str, list[float]]:
        return {"embedding": output}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 in a container")
    parser.add_argument("--threads", type=int, default=1, help="of torch, per worker")
    parser.add_argument("--max-batch", type=int, default=1)
    parser.add_argument("--batch-delay-ms", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=1, help="processes with a model each")
    options = parser.parse_args()
    api = EmbeddingAPI(options.threads, options.max_batch, options.batch_delay_ms)
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=options.workers, timeout=20, healthcheck_path="/healthz"
    )
    # One process takes the requests: more of them would only compete with the model for the cores.
    server.run(
        host=options.host, port=options.port, num_api_servers=1, generate_client_file=False, log_level="warning",
        access_log=False,
    )  # fmt: skip


if __name__ == "__main__":
    main()
