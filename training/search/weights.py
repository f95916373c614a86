"""Weights in a file, in the format of safetensors, with its library or without.

`python -m training.search.weights FROM TO` writes those that ship: half as large, in 16 bits.

`python -m training.search.weights EARLIER RUN... OUT` carries fine-tuning over. All are folders of
`training.search.train`. EARLIER has weights that were fine-tuned on measured tables, and those from before. RUNs went
on from these, by other seeds or on other machines; the mean of theirs is the new base (Wortsman et al., Model Soups,
2022). What fine-tuning changed is added to it (a task vector: Ilharco et al., Editing Models with Task Arithmetic,
2023), once per source that was left out and once for all: seconds, where fine-tuning again takes minutes on a GPU. A
source that was left out still is.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

BASE = "weights-base.safetensors"  # in a folder of a training: before any fine-tuning
_TYPES = {"F32": "<f4", "F16": "<f2"}


def save_weights(network: nn.Module, path: Path, kind: str = "F32") -> None:
    """Written whole, or not at all."""
    _write(network.state_dict(), path, kind)


def load_weights(network: nn.Module, path: Path) -> None:
    """Raises where names or shapes are not the network's."""
    network.load_state_dict(_read(path))


def carry_over(earlier: Path, runs: Sequence[Path], out: Path) -> list[Path]:
    """Write the new base, and the fine-tuned weights of `earlier` carried over to it, into `out`; returns all."""
    old_base, bases = _read(earlier / BASE), [_read(run / BASE) for run in runs]
    base = {name: torch.stack([one[name] for one in bases]).mean(0) for name in old_base}
    out.mkdir(parents=True, exist_ok=True)
    written = [out / BASE]
    _write(base, written[0])
    for path in sorted(earlier.glob("weights-*.safetensors")):
        if path.name != BASE:
            tuned = _read(path)
            written.append(out / path.name)
            _write({name: base[name] + tuned[name] - old_base[name] for name in tuned}, written[-1])
    return written


def _write(state: Mapping[str, Tensor], path: Path, kind: str = "F32") -> None:
    """The format: the header's length, the header as JSON, the numbers."""
    header: dict[str, object] = {}
    blobs, at = [], 0
    for name, tensor in sorted(state.items()):
        blob = tensor.detach().float().cpu().contiguous().numpy().astype(_TYPES[kind]).tobytes()
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    part = path.with_suffix(".part")
    part.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(blobs))
    part.replace(path)


def _read(path: Path) -> dict[str, Tensor]:
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
    return state


if __name__ == "__main__":
    first, *between, last = (Path(one) for one in sys.argv[1:])
    if between:
        carry_over(first, between, last)
    else:
        _write(_read(first), last, "F16")
