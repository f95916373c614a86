"""Which part of a space its runner can run at all, known before anything is launched."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runners import Resources, Runner
from search_spaces import Configuration
from tuner.errors import UnfitEnvironmentError
from tuner.launch.memory.fit import misfit
from tuner.launch.render import resources
from tuner.spec.reading import LoadedSpec

NOT_HERE = "cannot run here"  # how a trial's reason begins where another machine, or cluster, might run it
_SAMPLE = 2000


def why_unfit(loaded: LoadedSpec, configuration: Configuration) -> str | None:
    """Why the configuration can run nowhere: a model that is too large for what it is given. None where it is not."""
    for service in loaded.services:
        if reason := misfit(service.loaded, service.own(configuration)):
            return f"{service.name} {reason}" if service.name else reason
    return None


def why_refused(loaded: LoadedSpec, runner: Runner, configuration: Configuration) -> str | None:
    """Why the configuration can never run there, or None. A service may ask for too much, or, on one machine, all
    services together.
    """
    if unfit := why_unfit(loaded, configuration):
        return unfit
    asked = [resources(one.loaded.space, one.own(configuration)) for one in loaded.services]
    for service, one in zip(loaded.services, asked, strict=True):
        if reason := runner.refuses(one):
            return f"{service.name} {reason}" if service.name else reason
    if len(asked) == 1 or not loaded.spec.runner.on_this_machine:
        return None
    shares = [one.cpu_cores or 0.0 for one in asked]
    cores = float(sum(map(math.ceil, shares)))
    whole = ", each on whole cores of its own" if cores != sum(shares) else ""
    if reason := runner.refuses(Resources(cpu_cores=cores or None)):
        return f"all services together{whole}: it {reason}"
    memory = sum(one.memory_bytes or 0 for one in asked)
    reason = runner.refuses(Resources(memory_bytes=memory or None))
    return f"all services together: it {reason}" if reason else None


@dataclass(frozen=True)
class Runnable:
    """A sample of the space: what can run, and why the rest cannot. `count` is how many configurations of the space can
    run, an estimate where the space is larger than the sample.
    """

    configurations: tuple[Configuration, ...]
    refusals: tuple[str, ...]
    count: int

    @property
    def refused_share(self) -> float:
        """The share of the space that cannot run, 0 to 1."""
        return len(self.refusals) / (len(self.refusals) + len(self.configurations))


def runnable(loaded: LoadedSpec, runner: Runner) -> Runnable:
    """Raises UnfitEnvironmentError where no configuration of the space can run, since there is then nothing to try."""
    fit: list[Configuration] = []
    refusals: list[str] = []
    for configuration in loaded.space.sample(_SAMPLE, seed=0):
        reason = why_refused(loaded, runner, configuration)
        if reason is None:
            fit.append(configuration)
        else:
            refusals.append(reason)
    if not fit:
        raise UnfitEnvironmentError(
            f"no configuration of the space can run here: {min(refusals)}\n"
            f"Change the choices in {loaded.file.place(('space', 'parameters'))}, or run it elsewhere with `runner`."
        )
    share = len(fit) / (len(fit) + len(refusals))
    return Runnable(tuple(fit), tuple(refusals), max(1, round(loaded.space.size.count * share)))
