"""Weights in a file, in the format of safetensors, with its library or without.

`python -m training.search.weights FROM TO` writes those that ship: half as large, in 16 bits.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

BASE = "weights-base.safetensors"  # in a folder of a training: before any fine-tuning
_TYPES = {"F32": "<f4", "F16": "<f2"}


def save_weights(network: nn.Module, path: Path, kind: str = "F32") -> None:
    """Written whole, or not at all. The format: the header's length, the header as JSON, the numbers."""
    header: dict[str, object] = {}
    blobs, at = [], 0
    for name, tensor in sorted(network.state_dict().items()):
        blob = tensor.detach().float().cpu().contiguous().numpy().astype(_TYPES[kind]).tobytes()
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    part = path.with_suffix(".part")
    part.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(blobs))
    part.replace(path)


def load_weights(network: nn.Module, path: Path) -> None:
    """Raises where names or shapes are not the network's."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    state = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = (8 + size + one for one in entry["data_offsets"])
        numbers = np.frombuffer(data[first:last], dtype=_TYPES[entry["dtype"]]).reshape(entry["shape"])
        state[name] = torch.from_numpy(numbers.astype(np.float32))
    network.load_state_dict(state)


if __name__ == "__main__":
    from training.search.model.network import SurrogateModule

    shipped = SurrogateModule()
    load_weights(shipped, Path(sys.argv[1]))
    save_weights(shipped, Path(sys.argv[2]), "F16")
