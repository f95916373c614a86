"""What one trial is to find out, what all trials of a study share, and the seam behind which a trial is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loadtest import TOO_SHORT, LoadGenerator
from runners import Infeasible, Runner, ServerFailed
from search_spaces import Configuration
from tuner.launch.estimate import longest_load_s
from tuner.launch.price import known_price
from tuner.spec.reading import LoadedSpec
from tuner.trial.findings import Findings
from tuner.trial.server import ServiceSetup, TrialServer

# A first rate a little below break-even, so that noise does not throw away a configuration that equals the best.
BREAK_EVEN_MARGIN = 0.97

OnPhase = Callable[[str, float], None]


@dataclass(frozen=True)
class TrialSetup:
    """What all trials of a study share. `trials` is the folder that holds one folder per trial."""

    loaded: LoadedSpec
    services: tuple[ServiceSetup, ...]
    runner: Runner
    measurer: Measurer
    trials: Path
    seed: int

    def price(self, configuration: Configuration) -> float | None:
        """Per hour, known before it is launched."""
        return known_price(self.loaded, self.runner, configuration)

    def longest_load_s(self, *, confirmation: bool) -> float:
        """The most that one trial loads its servers, or would have, in a replay."""
        return longest_load_s(self.loaded, self.runner, confirmation=confirmation)

    @property
    def cache(self) -> Path:
        """The folder where servers keep what they compile, for the trials that follow."""
        return self.trials.parent / "cache"


def _without_end(_seconds: float) -> float:
    return math.inf


def _never(_price: float | None) -> None:
    """Nothing is pruned."""


@dataclass(frozen=True)
class TrialRequest:
    """What one trial is to find out. `break_even_qps` is the rate that a configuration of a price must hold, or it is
    pruned. `confirmation` counts the further launches of a trial's configuration (0: the trial itself): they are
    longer, and never pruned. `final_round` is the round of the final that it belongs to, `at_once` how many
    trials run side by side. `launch_s` says how long its servers may take to start, by what is left of a run's time and
    money; it is asked while they do, with how long they have taken.
    """

    number: int
    configuration: Configuration
    break_even_qps: Callable[[float | None], float | None] = _never
    confirmation: int = 0
    final_round: int | None = None
    at_once: int = 1
    launch_s: Callable[[float], float] = _without_end

    @property
    def folder_name(self) -> str:
        """`0007`; `0007-again` for the first further launch of trial 7, `0007-again-2` for the next."""
        further = "" if self.confirmation <= 1 else f"-{self.confirmation}"
        return f"{self.number:04d}" + ("-again" if self.confirmation else "") + further


@dataclass(frozen=True)
class TrialJob:
    """One trial under way: what was asked, in which folder, by which servers, and whom to tell how far it is."""

    setup: TrialSetup
    request: TrialRequest
    folder: Path
    servers: Sequence[TrialServer]
    on_phase: OnPhase

    @property
    def seed(self) -> int:
        """The load's seed, which is different for each launch of the study."""
        number, confirmation = self.request.number, self.request.confirmation
        return self.setup.seed * 1_000_003 + 2 * number + (confirmation > 0) + 100_003 * max(0, confirmation - 1)

    def break_even_qps(self, price: float | None) -> float | None:
        """The rate, in requests/s, that a configuration of this price must hold; None: it is never pruned."""
        return None if self.request.confirmation else self.request.break_even_qps(price)

    def check(self) -> None:
        """Raises Infeasible or ServerFailed if one of the servers is no longer alive."""
        for server in self.servers:
            with naming(server):
                server.endpoint.check()


class Measurer(Protocol):
    """One way to measure what was launched: by a load test from here, by one near the servers, or from a table."""

    @property
    def launches(self) -> bool:
        """Whether servers are really started. If so, they can be asked things, and they can fail."""

    def ready(self, *, near: bool) -> AbstractContextManager[LoadGenerator | None]:
        """A context that is entered before the servers are launched, since a load generator takes a second to start,
        and left when the trial is over. With `near` false the load may come from elsewhere, so nothing is started
        yet.
        """

    def measure(self, job: TrialJob, generator: LoadGenerator | None) -> Findings:
        """Called once, while the servers run; blocks until the verdict. Raises Infeasible and ServerFailed for what the
        servers do wrong, LoadTestError where the load test could not run.
        """


@contextmanager
def naming(server: TrialServer) -> Iterator[None]:
    """Around work on one of several servers: what it raises begins with the name of the service, if it has one."""
    name = server.service.name
    try:
        yield
    except Infeasible as error:
        if not name:
            raise
        raise Infeasible(f"{name}: {error}", error.p99_ms) from error
    except ServerFailed as error:
        if not name or error.reason.startswith(TOO_SHORT):  # that is the trial's, and no fault of this server's
            raise
        raise ServerFailed(f"{name}: {error.reason}", error.log_tail) from error
