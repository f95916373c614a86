"""Take a picture of a terminal: run a command in one of a given width, and write what it shows as an SVG.

    python -m docs.terminal --width 100 --rows 20 --after 30 --output docs/pictures/live-100.svg -- tune spec.yaml

The command runs in a pseudo-terminal, and pyte keeps its screen. `--after SECONDS` takes the picture while it runs;
without it, when it ends. Needs pyte.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import io
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

_COLOURS = {"brown": "yellow", "default": None}


def screen_of(command: list[str], width: int, rows: int, after: float | None) -> pyte.Screen:
    """Run it, and keep its screen until then."""
    screen = pyte.Screen(width, rows)
    stream = pyte.ByteStream(screen)
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(width), "LINES": str(rows)}
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, width, 0, 0))
    ends = None if after is None else time.monotonic() + after
    while ends is None or time.monotonic() < ends:
        ready, _, _ = select.select([terminal], [], [], 0.2)
        if not ready:
            continue
        try:
            data = os.read(terminal, 65536)
        except OSError:  # it has ended
            break
        if not data:
            break
        stream.feed(data)
    _end(child, terminal)
    return screen


def _end(child: int, terminal: int) -> None:
    """Interrupt it as Ctrl-C does, and read what it says until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGINT)
    with contextlib.suppress(OSError):
        while os.read(terminal, 65536):
            pass
    os.close(terminal)
    os.waitpid(child, 0)


def picture(screen: pyte.Screen, title: str) -> str:
    """The screen as SVG."""
    lines = []
    for row in range(screen.lines):
        line = Text(no_wrap=True)
        for column in range(screen.columns):
            cell = screen.buffer[row][column]
            colour = _COLOURS.get(cell.fg, cell.fg)
            colour = (
                f"#{colour}" if colour and len(colour) == 6 and colour.isalnum() and not colour.isalpha() else colour
            )
            line.append(cell.data, Style(color=colour.replace("bright", "bright_") if colour else None, bold=cell.bold))
        lines.append(line)
    while lines and not lines[-1].plain.strip():
        lines.pop()
    console = Console(record=True, width=screen.columns, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(line)
    return console.export_svg(title=title)


def _colour(name: str) -> str | None:
    """Pyte's names and hexadecimal numbers as rich has them."""
    if name in _COLOURS:
        return _COLOURS[name]
    return f"#{name}" if len(name) == 6 and not name.isalpha() else name.replace("bright", "bright_")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--rows", type=int, default=30)
    parser.add_argument("--after", type=float)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    screen = screen_of(options.command, options.width, options.rows, options.after)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(
        picture(screen, " ".join(Path(options.command[0]).name.split() + options.command[1:])), encoding="utf-8"
    )
    sys.stdout.write("\n".join(screen.display).rstrip() + "\n")


if __name__ == "__main__":
    main()
