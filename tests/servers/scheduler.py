"""A tiny scheduler for the tests of commands: `up` leaves a server running, `url` prints where, `down` ends it.

A job is a file of the folder with the id of the server's process. `up` returns at once, and `url` prints nothing until
the job has "waited" for `--wait` seconds, as where a queue is long. `down` succeeds where nothing is left.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SERVER = Path(__file__).parent / "misbehaving.py"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=("up", "url", "down"))
    parser.add_argument("job")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port")
    parser.add_argument("--mode", default="ok")
    parser.add_argument("--service-ms", default="1")
    parser.add_argument("--wait", type=float, default=0.0)
    parser.add_argument("--slow-s", type=float, default=0.0)
    parser.add_argument("--code", type=int, default=0)
    options = parser.parse_args()
    job = options.folder / f"{options.job}.job"
    print(f"{options.verb} of {options.job}", file=sys.stderr, flush=True)
    if options.verb == "up":
        command = [
            sys.executable, SERVER, "--port", options.port, "--mode", options.mode, "--service-ms", options.service_ms
        ]  # fmt: skip
        with Path(os.devnull).open("wb") as nowhere:
            server = subprocess.Popen(command, stdout=nowhere, stderr=nowhere, start_new_session=True)
        job.write_text(f"{server.pid} {time.time()} {options.port}", encoding="ascii")
    elif options.verb == "url":
        _, begun, port = job.read_text(encoding="ascii").split()
        if time.time() - float(begun) >= options.wait:
            print(f"http://127.0.0.1:{port}\nand more", flush=True)
    elif job.exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(job.read_text(encoding="ascii").split()[0]), signal.SIGKILL)
        job.unlink()
    time.sleep(options.slow_s)
    sys.exit(options.code)


if __name__ == "__main__":
    main()
