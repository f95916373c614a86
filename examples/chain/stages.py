"""The three stages of the example's chain: an image is decoded, a network finds candidates, a forest ranks them.

    python stages.py            # makes the weights, and requests for each stage

Everything is made on the spot from scikit-learn's own two photographs (CC BY 2.0, as its `load_sample_images` says),
with fixed seeds: the point is what the stages cost, not what they know.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

SIDE, CANDIDATES, FEATURES = 128, 40, 16
IMAGES = 24
FOLDER = Path(__file__).parent / "made"

Stage = Callable[[list[bytes]], list[bytes]]  # a batch of requests, and the answer to each


def decode() -> Stage:
    """From a JPEG to float32 pixels, three planes of `SIDE` by `SIDE`."""
    from PIL import Image

    def pixels(body: bytes) -> bytes:
        image = Image.open(io.BytesIO(body)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        return np.ascontiguousarray(np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255.0).tobytes()

    return lambda bodies: [pixels(body) for body in bodies]


def classify() -> Stage:
    """From pixels to `CANDIDATES` rows of `FEATURES` float32. PyTorch takes OMP_NUM_THREADS."""
    import torch

    network = _network()
    network.load_state_dict(torch.load(FOLDER / "network.pt", weights_only=True))
    network.eval()

    def run(bodies: list[bytes]) -> list[bytes]:
        pixels = np.frombuffer(b"".join(bodies), dtype=np.float32).reshape(len(bodies), 3, SIDE, SIDE).copy()
        with torch.inference_mode():
            return [one.tobytes() for one in network(torch.from_numpy(pixels)).numpy()]

    return run


def rank() -> Stage:
    """From candidates to their order, as JSON."""
    import joblib

    forest = joblib.load(FOLDER / "forest.joblib")
    lock = threading.Lock()  # scikit-learn resets the process's warning filters meanwhile: two at once warn each time

    def run(bodies: list[bytes]) -> list[bytes]:
        candidates = np.frombuffer(b"".join(bodies), dtype=np.float32).reshape(-1, FEATURES)
        with lock:
            scores = forest.predict(candidates)
        orders = np.argsort(-scores.reshape(len(bodies), CANDIDATES), axis=1)
        return [json.dumps({"order": order.tolist()}).encode() for order in orders]

    return run


def whole() -> Stage:
    """All three in one process."""
    first, second, third = decode(), classify(), rank()
    return lambda bodies: third(second(first(bodies)))


STAGES: dict[str, Callable[[], Stage]] = {"decode": decode, "classify": classify, "rank": rank, "all": whole}


def _network():
    from torch import nn

    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 96), (96, 96)):
        layers += [nn.Conv2d(before, after, 3, stride=1 if before == 3 else 2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, CANDIDATES * FEATURES))


def make() -> None:
    """The weights, and for each stage the requests that its caller would send it."""
    import joblib
    import torch
    from PIL import Image
    from sklearn.datasets import load_sample_images
    from sklearn.ensemble import RandomForestRegressor

    for name in ("images", "tensors", "candidates"):
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    torch.manual_seed(0)
    torch.save(_network().state_dict(), FOLDER / "network.pt")
    examples = generator.normal(size=(2000, FEATURES)).astype(np.float32)
    forest = RandomForestRegressor(n_estimators=80, max_depth=8, random_state=0, n_jobs=1)
    joblib.dump(forest.fit(examples, np.tanh(examples).sum(axis=1)), FOLDER / "forest.joblib")
    photographs = [Image.fromarray(one) for one in load_sample_images().images]
    first, second = decode(), classify()
    for number in range(IMAGES):
        photograph = photographs[number % len(photographs)]
        left, top = (int(generator.integers(0, 160)) for _ in range(2))
        file = io.BytesIO()
        photograph.crop((left, top, left + 480, top + 260)).resize((960, 520)).save(file, "JPEG", quality=90)
        (FOLDER / "images" / f"{number:02d}.jpg").write_bytes(file.getvalue())
        tensors = first([file.getvalue()])
        (FOLDER / "tensors" / f"{number:02d}.bin").write_bytes(tensors[0])
        (FOLDER / "candidates" / f"{number:02d}.bin").write_bytes(second(tensors)[0])


if __name__ == "__main__":
    make()
