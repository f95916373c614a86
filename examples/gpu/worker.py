"""One process with both models on the device: takes batches from `server.py` over a socket, one after the other.

A message is four bytes of length (big endian) and JSON. `{"model": "vision", "items": [3, 7]}` is answered with
`{"answers": [...]}`; `{"configure": {"precision": "fp16", "threads": 4, "batch_size": 16}}` prepares for such batches;
`{"tell": "device"}` asks what the device holds. What fails is answered with `{"error": "...", "oom": true}`.

A batch runs in one of the sizes that were prepared (1, 2, 4, ... and the largest), filled up with items whose answers
nobody gets: libraries choose, and may compile, a kernel for a size when it first comes, and would stall a batch of it.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import sys
from typing import Any

import torch
from models import SIZES, Encoder, Inputs, resnet
from torch import nn

_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Worker:
    """The models of one process; made once, on one device."""

    def __init__(self, size: str, device: str, memory_fraction: float) -> None:
        self.device = torch.device(device)
        if self.device.type == "cuda" and memory_fraction < 1:
            torch.cuda.set_per_process_memory_fraction(memory_fraction)
        torch.manual_seed(0)
        self.inputs = Inputs(SIZES[size])
        self._bare: dict[str, nn.Module] = {"vision": resnet(SIZES[size]).eval(), "encode": Encoder(SIZES[size]).eval()}
        self._models: dict[tuple[str, torch.dtype], nn.Module] = {}
        self._dtype = torch.float32
        self._sizes: tuple[int, ...] = (1,)
        self.ran: set[int] = set()
        self._prepared: set[tuple[str, str, int]] = set()

    def configure(self, precision: str, threads: int, batch_size: int, models: list[str]) -> dict[str, Any]:
        """From now on with this precision; runs a batch of each size and model, the largest first, so that no request
        pays for what a library loads or chooses at its first call.
        """
        torch.set_num_threads(threads)
        self._dtype = _DTYPES[precision]
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        self._sizes = prepared_sizes(batch_size)
        for model in models:
            for size in reversed(self._sizes):
                if size == batch_size or (model, precision, size) not in self._prepared:
                    self.run(model, list(range(size)))
                    self._prepared.add((model, precision, size))
        return self.tell()

    def run(self, model: str, items: list[int]) -> dict[str, Any]:
        """An answer per item: the class of an image, the first three numbers of a text's vector."""
        size = next((one for one in self._sizes if one >= len(items)), len(items))
        self.ran.add(size)
        with torch.inference_mode():
            filled = items + items[-1:] * (size - len(items))
            made = getattr(self.inputs, model)(filled, self.device, self._dtype)
            found = self._model(model)(made)[: len(items)]
            if model == "vision":
                return {"answers": found.argmax(dim=1).tolist()}
            return {"answers": found[:, :3].float().tolist()}

    def _model(self, name: str) -> nn.Module:
        key = (name, self._dtype)
        if key not in self._models:
            model = {"vision": resnet, "encode": Encoder}[name](self.inputs.size).eval()
            model.load_state_dict(self._bare[name].state_dict())
            layout = torch.channels_last if name == "vision" else torch.contiguous_format
            self._models[key] = model.to(self.device, self._dtype, memory_format=layout)  # type: ignore[call-overload]
        return self._models[key]

    def tell(self) -> dict[str, Any]:
        """What this process holds, in bytes, the sizes in which batches ran, and the multiprocessors that it may use
        (MPS may lessen them).
        """
        found: dict[str, Any] = {"pid": os.getpid(), "torch": torch.__version__, "batch_sizes": sorted(self.ran)}
        if self.device.type == "cuda":
            properties = torch.cuda.get_device_properties(self.device)
            found |= {
                "name": properties.name,
                "multiprocessors": properties.multi_processor_count,
                "allocated_bytes": torch.cuda.memory_allocated(),
                "reserved_bytes": torch.cuda.memory_reserved(),
            }
        return found

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """To one message; what fails is said."""
        try:
            if "configure" in message:
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()  # lest what another batch size needed counts against the slice
                return self.configure(**message["configure"])
            return self.tell() if "tell" in message else self.run(message["model"], message["items"])
        except torch.OutOfMemoryError as error:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            return {"error": f"out of memory: {str(error).splitlines()[0]}", "oom": True}
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            return {"error": str(error).splitlines()[0] if str(error) else type(error).__name__, "oom": False}


def prepared_sizes(largest: int) -> tuple[int, ...]:
    """Powers of two, and the largest: a batch is filled up to less than twice its size."""
    return (*(2**power for power in range(largest.bit_length()) if 2**power < largest), largest)


def _serve(worker: Worker, connection: socket.socket) -> None:
    """Until the other end closes."""
    stream = connection.makefile("rwb")
    while len(head := stream.read(4)) == 4:
        message = json.loads(stream.read(struct.unpack("!I", head)[0]))
        text = json.dumps(worker.answer(message)).encode()
        stream.write(struct.pack("!I", len(text)) + text)
        stream.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--socket", type=int, required=True, help="the number of an open one")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=list(SIZES), default="full")
    parser.add_argument("--memory-fraction", type=float, default=1.0)
    options = parser.parse_args()
    worker = Worker(options.size, options.device, options.memory_fraction)
    with socket.socket(fileno=options.socket) as connection:
        _serve(worker, connection)


if __name__ == "__main__":
    sys.exit(main())
