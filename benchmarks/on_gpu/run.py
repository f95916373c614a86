"""What every section has: the time that is left, a folder, and a report that is written as it grows."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Run:
    """One run of the benchmark. `ends` is a reading of `time.monotonic()`; `notes` become `results.json`."""

    device: str
    output: Path
    begun: float
    ends: float
    limit_ms: float
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def left_s(self) -> float:
        """Seconds until the end."""
        return self.ends - time.monotonic()

    @property
    def on_gpu(self) -> bool:
        """Whether there is one in this run."""
        return self.device != "cpu"

    def say(self, text: str = "") -> None:
        """To standard output and to `gpu.md`."""
        print(text, flush=True)
        with (self.output / "gpu.md").open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")

    def note(self, name: str, value: Any) -> None:
        """Into `results.json`, which is replaced as a whole."""
        self.notes[name] = value
        part = self.output / ".results.json.part"
        part.write_text(json.dumps(self.notes, indent=1, default=str) + "\n", encoding="utf-8")
        part.replace(self.output / "results.json")

    @contextmanager
    def section(self, title: str) -> Iterator[None]:
        """What fails in it is said, and the next section goes on."""
        began = time.monotonic()
        self.say(f"\n## {title}\n")
        try:
            yield
        except Exception as error:  # noqa: BLE001 (whatever it is, the other sections are worth having)
            self.say(f"\nThis section failed: {type(error).__name__}: {error}")
            self.note(f"failed: {title}", f"{type(error).__name__}: {error}")
        self.say(f"\n({time.monotonic() - began:.0f} s; {self.left_s:.0f} s are left)")


def environment() -> dict[str, str]:
    """For processes that import this repository's packages, installed or not."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def until(ends: float, holds: Callable[[], bool], every_s: float = 0.1) -> bool:
    """Whether it held before the time was over."""
    while time.monotonic() < ends:
        if holds():
            return True
        time.sleep(every_s)
    return False


PYTHON = sys.executable
