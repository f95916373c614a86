"""The tuner's side of the load test: starts the generator's process, hands it a plan, reads its answer."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import IO, Any

from pydantic import TypeAdapter, ValidationError

from loadtest.plan import Answer, JointPlan, LoadPlan, Measurement, Progress

_LINE: TypeAdapter[Progress | Answer] = TypeAdapter(Progress | Answer)
_OURS = '{"event":'
_STOP_S = 30.0  # what was killed, or has said its last, is gone at once, but not on a machine without a free core
_CHECK_S = 60.0
_OVERTIME_S = 30.0  # a generator that is this late hangs, whatever it promised


class LoadTestError(Exception):
    """No measurement could be made, and not because of the server: a wrong plan, or a generator that died."""


class WrongLocustfile(LoadTestError):
    """The user's locustfile is wrong: no trial can do anything with it."""


def check_locustfile(path: str) -> None:
    """Load it in a process of its own, as the generator will. Raises WrongLocustfile with what is wrong, and where."""
    command = [sys.executable, "-P", "-m", "loadtest", "--check-locustfile", path]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_CHECK_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise WrongLocustfile(f"locustfile: {path} takes more than {_CHECK_S:g} s to load") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise WrongLocustfile(lines[-1] if lines else f"locustfile: {path} ended the process that loads it")


def read_answers(
    lines: Iterable[str], on_progress: Callable[[Progress], Any], last_words: Callable[[], str]
) -> Measurement:
    """What a generator says, line by line. Raises LoadTestError with its own message, or with its last words where it
    ended without one.
    """
    for line in lines:
        try:
            message = _LINE.validate_json(line)
        except ValidationError as error:
            raise LoadTestError(f"the generator answered with what is no answer: {line[:200]!r}") from error
        if isinstance(message, Progress):
            on_progress(message)
        elif message.measurement is not None:
            return message.measurement
        else:
            kind = WrongLocustfile if message.wrong == "locustfile" else LoadTestError
            raise kind(message.error or "the generator gave no reason")
    raise LoadTestError(last_words())


def read_log(lines: Iterable[str], on_progress: Callable[[Progress], Any]) -> Measurement:
    """As `read_answers`, but from a log in which standard error is mixed with the answers."""
    said = ["it printed nothing"]

    def answers() -> Iterator[str]:
        for line in lines:
            if line.startswith(_OURS):  # what a locustfile prints may begin with a bracket, too
                yield line
            elif line.strip():
                said.append(line)

    return read_answers(answers(), on_progress, lambda: f"the generator ended without an answer: {said[-1]}")


class LoadGenerator:
    """One generator process for one measurement.

    It starts on entering, so that its imports overlap with the server's start, and is gone on leaving. It runs in a
    session of its own: an interrupt at the terminal reaches the tuner, which then ends it.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[str] | None = None

    def __enter__(self) -> LoadGenerator:
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            # -P: no folder of the caller's is searched for modules, so that none can shadow the generator's.
            # --parent: where the tuner dies while this one starts, it ends as soon as it can tell.
            [sys.executable, "-P", "-m", "loadtest", "--parent", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process, and with it all its connections. May be called twice."""
        process = self._running()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        # It holds nothing worth a farewell, and a busy one would be slow to say it.
        process.kill()
        process.wait(_STOP_S)
        if self._errors is not None:
            self._errors.close()

    def measure(self, plan: LoadPlan | JointPlan, on_progress: Callable[[Progress], Any]) -> Measurement:
        """Run the plan; `on_progress` is called about twice a second, and what it raises ends the measurement.

        Raises LoadTestError with the generator's own message, or with the end of what it printed when it died.
        """
        process = self._running()
        # Nothing that it writes is awaited for ever: killing it ends the loop below.
        watchdog = threading.Timer(plan.longest_s + _OVERTIME_S, process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            return self._converse(process, plan, on_progress)
        finally:
            watchdog.cancel()

    def _converse(
        self, process: subprocess.Popen[str], plan: LoadPlan | JointPlan, on_progress: Callable[[Progress], Any]
    ) -> Measurement:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 (both are pipes)
        try:
            process.stdin.write(plan.model_dump_json())
            process.stdin.close()
        except BrokenPipeError as error:
            raise LoadTestError(self._last_words()) from error
        return read_answers(process.stdout, on_progress, self._last_words)

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("a LoadGenerator is used inside its `with` block")
        return self._process

    def _last_words(self) -> str:
        assert self._errors is not None  # noqa: S101 (set on entering)
        code = self._running().wait(_STOP_S)
        self._errors.seek(0)
        lines = [line for line in self._errors.read()[-2000:].splitlines() if line.strip()]
        return f"the generator ended with code {code}: {lines[-1] if lines else 'it printed nothing'}"
