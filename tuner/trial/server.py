"""One server of a trial: how its service is launched for a configuration, and how it is loaded."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from loadtest import Burst, LatencyLimit, LoadPlan, PrefixCache, Slo
from runners import Container, Endpoint, Readiness, Resources, Runner, SampleRequest, ServerFailed
from runners.servers import ServerAddress, Statistics
from search_spaces import ParameterValue
from tuner.launch.adapter import reach, serving
from tuner.launch.prepare import counters, prepare, server_figures
from tuner.launch.quality import Quality
from tuner.launch.render import TrialLaunch, render, resources, sample_request
from tuner.launch.requests import RequestSource
from tuner.spec.reading import LoadedSpec, Service
from tuner.trial.machine import server_processes


@dataclass(frozen=True)
class ServiceSetup:
    """What all trials share of one service: the spec's part, its requests, its quality guard."""

    service: Service
    source: RequestSource
    quality: Quality | None = None


class TrialServer:
    """`endpoint` is valid from `launch` until its stack is closed."""

    endpoint: Endpoint

    def __init__(self, setup: ServiceSetup, configuration: Mapping[str, ParameterValue], launch: TrialLaunch) -> None:
        self.service, self.source, self.folder = setup.service, setup.source, launch.folder / setup.service.name
        self.configuration = setup.service.own(configuration)
        self.asked = resources(self.loaded.space, self.configuration)
        self._setup, self._launch = setup, launch
        self._at: ServerAddress | None = None
        self._counted_before: Statistics | None = None
        self.launch_s = 0.0
        self.begun = math.inf  # when its launch began, by the monotonic clock

    @property
    def loaded(self) -> LoadedSpec:
        """The service's spec."""
        return self.service.loaded

    @property
    def is_asked(self) -> bool:
        """Whether the spec, or its adapter, says what requests it takes; a stage of a chain need not."""
        return not self.loaded.is_called or sample_request(self.loaded, self.source) is not None

    def launch(self, runner: Runner, stack: ExitStack, reached: Mapping[str, str] | None = None) -> None:
        """Blocks until it serves; closing the stack ends it. `reached` has the URLs of the services that it calls.
        Raises as `Runner.launch`.
        """
        self.begun = time.monotonic()
        self.endpoint = stack.enter_context(runner.launch(self._container(runner, reached or {})))
        self.launch_s = time.monotonic() - self.begun

    def check_quality(self, begin: Callable[[], None]) -> None:
        """Raises Infeasible where its answers are not good enough. Calls `begin` where there is a guard at all."""
        if self._setup.quality is not None:
            begin()
            self._setup.quality.check(self.endpoint.url, self.source, self.endpoint.check)

    def begin(self) -> None:
        """Called when the load test begins: notes what the server has counted so far."""
        self._counted_before = counters(self.loaded, self._at)

    def counted(self) -> Mapping[str, float]:
        """The record's figures of what the server has counted since `begin`."""
        return server_figures(self._counted_before, counters(self.loaded, self._at))

    def plan(
        self, url: str, cores: tuple[int, ...], *, shares_cores: bool, max_s: float, seed: int,
        first_rate_qps: float | None = None,
    ) -> LoadPlan:  # fmt: skip
        """How it is loaded: a best-effort service by its users."""
        load, best_effort = self.loaded.spec.load, self.service.best_effort
        return LoadPlan(
            url=url if self.source.plan.protocol == "http" else self._grpc_url(),
            request=self.source.plan,
            slo=self._slo(),
            arrivals="closed" if best_effort else load.arrivals,
            burst=Burst()
            if load.burst is None
            else Burst(factor=load.burst.factor, share=load.burst.share, length_s=load.burst.length),
            trace=None if best_effort else _path(self.loaded, load.trace),
            users=self.service.users if best_effort else load.users,
            locustfile=_path(self.loaded, load.locustfile),
            workers=load.workers,
            first_rate_qps=first_rate_qps,
            max_s=max_s,
            precision=load.precision,
            max_warmup_s=load.longest_warmup_s,
            request_timeout_s=self.loaded.spec.request_timeout_s,
            seed=seed,
            cores=cores,
            shares_cores=shares_cores,
            server=server_processes(self.endpoint),
            prefix_cache=self._prefix_cache(),
        )

    def _slo(self) -> Slo:
        if self.service.best_effort:  # nothing is judged by it; what is never answered is given up all the same
            return Slo(latency=(LatencyLimit(percentile=99, limit_ms=self.loaded.spec.request_timeout_s * 1e3),))
        slo = self.loaded.spec.slo
        assert slo is not None  # noqa: S101 (checked before the first launch; only replay does without)
        latency = tuple(
            LatencyLimit(
                metric=one.metric,
                percentile=one.percentile,
                limit_ms=one.limit_s * 1e3,
                good_ms={metric: limit_s * 1e3 for metric, limit_s in one.good},
            )
            for one in slo.limits
        )
        return Slo(latency=latency, error_rate=slo.error_rate)

    def _prefix_cache(self) -> PrefixCache | None:
        """Where the server tells what its prefix cache answered; None if its kind does not. The cache of a server that
        runs for others too is never emptied.
        """
        found = serving(self.loaded)
        counters = None if found is None else found.adapter.prefix_cache
        if counters is None:
            return None
        reset = counters.reset if self.loaded.spec.runner.launches else None
        return PrefixCache(queries=counters.queries, hits=counters.hits, reset=reset, path=counters.path)

    def _grpc_url(self) -> str:
        found = serving(self.loaded)
        port = None if found is None else found.adapter.grpc_port
        url = None if port is None or self._at is None else self._at.more[port]
        if url is None:
            raise ServerFailed("its port for gRPC cannot be reached from here: something is between (use http)")
        return url

    def _container(self, runner: Runner, reached: Mapping[str, str]) -> Container:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.loaded.spec.runner.launches:  # nothing is started
            return Container(
                self._launch.study, self._launch.trial, self.folder, self.loaded.folder, dict(self.configuration),
                Resources(), runner.place(self.folder), Readiness(None, 0.0, None),
            )  # fmt: skip
        launch = replace(self._launch, folder=self.folder, cache=self._launch.cache / self.service.name)
        return render(
            self.loaded, self.configuration, runner.place(self.folder), self.source, launch,
            prepare=self._prepare, reached=reached, best_effort=self.service.best_effort,
        )  # fmt: skip

    def _prepare(self, url: str, container: Container) -> SampleRequest | None:
        """Tell a server with an adapter what it can only be told while it runs, and learn from it what it takes."""
        self._at = reach(url, container.placement)
        self.source, sample = prepare(self.loaded, self.configuration, self.source, self._at, container)
        return sample


def _path(loaded: LoadedSpec, name: str | None) -> str | None:
    return None if name is None else str(loaded.folder / name)
