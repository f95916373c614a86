"""What every process that works on a study sets up first: its search, and what all its trials share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from loadtest import RequestPlan
from results.text import money
from runners import KnowsPrices, ReusingRunner, Runner
from runners.host.gpu import usable_gpus
from tuner.errors import UsageError
from tuner.launch.checks.runnable import why_refused
from tuner.launch.estimate import longest_load_s
from tuner.launch.price import known_price
from tuner.launch.quality import Quality, make_quality
from tuner.launch.render import live_parameters, resources
from tuner.launch.requests import RequestSource, request_source
from tuner.launch.runner import make_runner
from tuner.search.objective import Objective
from tuner.search.proposer import Proposer
from tuner.spec.reading import LoadedSpec, Service
from tuner.study.budget import Limits
from tuner.study.memory_limit import memory_limit
from tuner.study.plan import StudyPlan
from tuner.trial.load import ClusterMeasurer
from tuner.trial.server import ServiceSetup
from tuner.trial.setup import Measurer, TrialSetup
from tuner.trial.table import TableMeasurer

_MANY = 2000  # configurations, to see whether any has a price; of a smaller space these are all


def has_prices(runner: Runner) -> bool:
    """Whether the runner knows what configurations cost, as a replayed table may."""
    return isinstance(runner, KnowsPrices) and runner.has_prices()


def check_limits(limits: Limits, loaded: LoadedSpec, runner: Runner) -> None:
    """Raises UsageError where not even one trial fits into the search's part of the limits, or a cost is limited and
    nothing has a price.
    """
    first_s, final = longest_load_s(loaded, runner, confirmation=False), loaded.spec.objective.final
    shorter = ", or make trials shorter (load.max_trial)" if loaded.spec.runner.launches else ""
    if limits.seconds is not None:
        own_s = limits.for_search(final).seconds or 0.0
        if own_s < first_s or limits.seconds <= 0:
            part = f", and the final has {limits.seconds - own_s:.0f} s of them" if final else ""
            raise UsageError(
                f"a budget of {limits.seconds:g} s buys no trial: one may take {first_s:g} s of load alone{part}\n"
                f"Give more time{shorter}."
            )
    if limits.cost is None:
        return
    if limits.cost <= 0:
        raise UsageError(f"`max_cost` of {limits.cost:g} buys no trial; give an amount of money, such as 2.50")
    prices = [known_price(loaded, runner, one) or 0.0 for one in loaded.space.sample(_MANY, seed=0)]
    if not any(prices):
        raise UsageError("`max_cost`: nothing in this spec has a price\nGive prices (`prices:`), or `budget`.")
    size, own, first = loaded.space.size, limits.for_search(final).cost or 0.0, min(prices) * first_s / 3600
    if size.exact and size.count <= _MANY and own < first:
        currency = loaded.spec.prices.currency
        part = f", and the final has {money(limits.cost - own, currency)} of it" if final else ""
        raise UsageError(
            f"`max_cost` of {money(limits.cost, currency)} buys no trial: the cheapest may take "
            f"{money(first, currency)} for its load alone{part}\n"
            f"Give more money{shorter}."
        )


def make_proposer(loaded: LoadedSpec, runner: Runner, plan: StudyPlan) -> Proposer:
    """The study's search, which knows what this process can tell of configurations before they are launched."""
    return Proposer(
        loaded.space,
        Objective.of(loaded.spec.objective),
        seed=plan.seed,
        refuses=lambda configuration: why_refused(loaded, runner, configuration) is not None,
        price=partial(known_price, loaded, runner),
        limit_ms=loaded.p99_limit_ms,
        warm_start=plan.warm_start,
        memory=memory_limit(loaded),
    )


def request_sources(loaded: LoadedSpec) -> tuple[RequestSource, ...]:
    """The requests of each service; none for a replayed table. Raises as `request_source`."""
    if not loaded.spec.runner.launches:
        return tuple(RequestSource("GET", "/", {}, None, RequestPlan(), tls=False) for _ in loaded.services)
    return tuple(request_source(service.loaded) for service in loaded.services)


def trial_setup(
    loaded: LoadedSpec, sources: Sequence[RequestSource], runner: Runner, folder: Path, seed: int, *,
    fresh: bool = False,
) -> TrialSetup:  # fmt: skip
    """What all trials share, quality guards included; the folder holds theirs. `fresh` asks a reference for its answers
    anew. Raises as `make_quality`.
    """
    measurer: Measurer = ClusterMeasurer()
    if not loaded.spec.runner.launches:
        measurer = TableMeasurer(loaded.spec.runner.noise)

    def quality(service: Service, source: RequestSource) -> Quality | None:
        reference = folder / "reference" / service.name
        return make_quality(service.loaded, source, runner, reference, folder / "cache", fresh=fresh)

    services = tuple(
        ServiceSetup(service, source, quality(service, source) if measurer.launches else None)
        for service, source in zip(loaded.services, sources, strict=True)
    )
    return TrialSetup(loaded, services, runner, measurer, folder / "trials", seed)


def study_runner(loaded: LoadedSpec) -> Runner:
    """The spec's runner; where a running server can be told something that is tuned, its servers are used again."""
    runner, spec = make_runner(loaded), loaded.spec.runner
    reused = spec.reuse and spec.launches and not spec.attaches and not loaded.colocated and live_parameters(loaded)
    return ReusingRunner(runner) if reused else runner


def refuse_at_once(loaded: LoadedSpec, parallel: int) -> None:
    """Raises UsageError if this spec's trials cannot run at the same time. Trials of several services could wait for
    cores that another trial holds, for ever; processes that share a GPU would be measured as slow.
    """
    if parallel == 1:
        return
    if loaded.colocated:
        raise UsageError("`parallel`: several services take the whole budget of their machine; measure one at a time")
    if loaded.spec.runner.attaches:
        raise UsageError("`parallel`: there is one server, which runs one configuration at a time; leave it out")
    gpu = any(resources(loaded.space, one).gpu_count for one in loaded.space.sample(100, seed=0))
    if gpu and loaded.spec.runner.as_processes and not usable_gpus():  # else each gets devices of its own
        raise UsageError(
            "`parallel`: processes would share this machine's GPU; measure one at a time, or use the runner docker, "
            "which gives each a device of its own"
        )
