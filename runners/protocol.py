"""The seam between the tuner and the places where a server can run.

The tuner renders a configuration into a `Container` of plain values and calls `Runner.launch`. A runner knows nothing
of search, load or prices. Contract tests for every implementation ship in `runners.testing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from search_spaces.reading import foreign

MIB, GIB = 2**20, 2**30
ParameterValue = bool | int | float | str


class Infeasible(Exception):
    """The configuration cannot run or ran out of memory: a result that the search learns from. `p99_ms` is how slow it
    was, where that is known.
    """

    def __init__(self, reason: str, p99_ms: float | None = None) -> None:
        super().__init__(reason)
        self.p99_ms = p99_ms


class ServerFailed(Exception):
    """The server did not start, never became ready, or died. `log_tail` is the end of what it printed."""

    def __init__(self, reason: str, log_tail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.log_tail = log_tail


class RunnerUnavailable(Exception):
    """The environment cannot run anything (no engine, no cluster): the study stops with its message."""

    def __init__(self, reason: str) -> None:
        super().__init__(foreign(reason))


@dataclass(frozen=True)
class Resources:
    """What the configuration asks for. None: not limited by the spec. `gpus` is how many GPUs of that type, or slices
    of that size; None: one, where a type, a slice or a share is asked for. `gpu_compute` is the share of each GPU's
    compute, above 0 and at most 1; None: all of it, or what the slice has.
    """

    cpu_cores: float | None = None
    memory_bytes: int | None = None
    gpu_type: str | None = None
    gpu_memory: ParameterValue | None = None
    gpus: int | None = None
    gpu_compute: float | None = None

    @property
    def gpu_count(self) -> int:
        """How many GPUs, or slices of one, the server is to be given."""
        if self.gpus is not None:
            return self.gpus
        return int(any(one is not None for one in (self.gpu_type, self.gpu_memory, self.gpu_compute)))

    @property
    def shares_compute(self) -> bool:
        """Whether it is to have a part of a GPU's compute only."""
        return self.gpu_compute is not None and self.gpu_compute < 1

    @property
    def compute_percent(self) -> str:
        """The share of the compute as CUDA's MPS and device plugins write it: `25`, `12.5`."""
        return f"{100 * (1.0 if self.gpu_compute is None else self.gpu_compute):g}"


@dataclass(frozen=True)
class Placement:
    """What a server must be told before it is launched: where to listen, and where its rendered files lie.

    `more` are further ports that it may have for itself (gRPC, metrics, management), `scratch` a folder that it may
    make and write to, which is gone with it, `cache` one for what it compiles, which later servers find
    again (None: there is none).
    """

    host: str
    port: int
    files: str
    more: tuple[int, ...] = ()
    scratch: str = "/tmp"  # noqa: S108 (a container's own)
    cache: str | None = None


@dataclass(frozen=True)
class SampleRequest:
    """One real request; a server is ready only when it has answered it with a status of `good` (none: any 2xx). It is
    `checked` where the load test looks at the answers, too.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    good: tuple[int, ...] = ()
    checked: bool = False


@dataclass(frozen=True)
class Tls:
    """How the server's certificate is checked: against those of `ca_file`, else against the system's."""

    verify: bool = True
    ca_file: str | None = None


@dataclass(frozen=True)
class Readiness:
    """`path` (None: no health path) answers 2xx and `request` is answered, all within `timeout_s`; https with `tls`.

    Without a `request` any answer will do, where there is no `path` either.
    """

    path: str | None
    timeout_s: float
    request: SampleRequest | None
    tls: Tls | None = None

    @property
    def scheme(self) -> str:
        """The scheme of the server's URL."""
        return "http" if self.tls is None else "https"


def _go_on() -> None:
    """Nothing ends the launch."""


@dataclass(frozen=True)
class Container:
    """One configuration, rendered: all that a runner needs to launch it.

    `folder` is the trial's own folder, which exists: the runner writes the server's log (`server.log`) and the
    rendered `files` (relative path to text, under `folder / "files"`) there. `workdir` is where a relative path in
    `command` starts. `parameters` are the raw values, for the replay runner's look-up and for labels. `go_on` is called
    often while a launch waits, and ends it by raising. A running server can be told the parameters named in `live`, so
    that another configuration that differs in no other may run in it, unless it asks for a `fresh` launch; `running`
    says that it is such a one. `prepare` is called with the server's URL and this container once the health path has
    answered: it tells the server what can only be told while it runs, and returns the request to ask in place of
    `readiness.request`. It raises ServerFailed or Infeasible. `patch` is laid over a cluster's workload. Containers of
    one `group` run at the same time and may share a GPU; one that is `best_effort` runs only on what the others of its
    group leave, and nobody waits for what it has. `secrets` names variables of ours that the server is given
    too, whose values are written nowhere.
    """

    study: str
    trial: int
    folder: Path
    workdir: Path
    parameters: Mapping[str, ParameterValue]
    resources: Resources
    placement: Placement
    readiness: Readiness
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    go_on: Callable[[], None] = _go_on
    live: frozenset[str] = frozenset()
    fresh: bool = False
    running: bool = False
    group: str | None = None
    best_effort: bool = False
    patch: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[str, Container], SampleRequest | None] | None = None

    @property
    def priority_env(self) -> dict[str, str]:
        """What NVIDIA's MPS, where it runs, is told of a best-effort server: below normal priority."""
        return {"CUDA_MPS_CLIENT_PRIORITY": "1"} if self.best_effort else {}


@dataclass(frozen=True)
class Program:
    """A Python module to run beside a server: `python -m module arguments`. `{bundle}` in the arguments is a folder
    that holds the bytes of `bundle` in files, to be read one after the other in the order of their names. `env` names
    variables of ours that it is given. It runs for `at_most_s`.
    """

    module: str
    arguments: tuple[str, ...]
    bundle: bytes
    env: tuple[str, ...]
    at_most_s: float


class LoadJobUnavailable(Exception):
    """A program cannot run beside the server; the message says why."""


class InClusterLoad(Protocol):
    """A place near a server that is not near this machine."""

    @property
    def url(self) -> str:
        """The server's URL as it is reached from there."""

    @property
    def shares_cores(self) -> bool:
        """Whether the server may run on the same cores."""

    def run(self, program: Program, go_on: Callable[[], None]) -> Iterator[str]:
        """The lines that the program prints. What `go_on`, called often, raises ends the program; so does closing the
        iterator. Raises LoadJobUnavailable where it cannot run there.
        """


# As 0.1.0 named them; runners of other packages may import them.
Beside = InClusterLoad
NotBeside = LoadJobUnavailable


@dataclass(frozen=True)
class Leftover:
    """Something that outlived the run that started it."""

    what: str
    study: str
    trial: str

    def __str__(self) -> str:
        return f"{self.what} of trial {self.trial} of {self.study}"


@dataclass(frozen=True)
class Recorded:
    """A measurement that was made earlier and is replayed instead of a load test. Zero capacity is never recorded."""

    capacity_qps: float
    saturated_qps: float
    p99_ms: float | None
    price_per_hour: float | None
    trial_s: float | None


@dataclass(frozen=True)
class Usage:
    """What the server used between two moments. None: not measured by this runner."""

    cpu_cores_mean: float | None = None
    memory_peak_bytes: int | None = None
    throttled_share: float | None = None
    gpu_utilization: float | None = None
    gpu_memory_peak_bytes: int | None = None
    gpu_power_w: float | None = None
    gpu_clock_mhz: float | None = None
    gpu_throttling: tuple[str, ...] = ()  # why it was slowed down, in at least a tenth of the looks


@dataclass(frozen=True)
class LocalProcesses:
    """A server's processes on this machine, by which its own use of the cores can be told from that of others.

    They are those of `pids`, whatever descends from them, and whatever has all of `environ` in its environment.
    """

    cores: tuple[int, ...]
    pids: tuple[int, ...]
    environ: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class RunsHere(Protocol):
    """An endpoint that may be able to say which of this machine's processes its server is: an ability, not a duty."""

    @property
    def processes(self) -> LocalProcesses | None:
        """The server's processes; None if it runs elsewhere, or if its processes may not be seen from here."""


@runtime_checkable
class ReachedInside(Protocol):
    """An endpoint that other servers of its place reach at another address than we do: an ability, not a duty."""

    @property
    def inner_url(self) -> str:
        """The URL, without a path, at which a server that runs beside it can reach it."""


@runtime_checkable
class FoundRunning(Protocol):
    """An endpoint whose server another trial has launched, or was asked to go on with: an ability, not a duty."""

    @property
    def said(self) -> str:
        """How the trial came to the server: one of its `notes`, and true wherever the load comes from."""


@runtime_checkable
class Resizable(Protocol):
    """An endpoint whose server may be given other cores and another memory while it runs: an ability, not a duty."""

    def resize(self, resources: Resources) -> None:
        """Blocks until the server has these cores and memory. Raises ServerFailed if it cannot have them; what it
        has is then not known.
        """


@runtime_checkable
class KnowsPrices(Protocol):
    """A runner that knows what configurations cost, as a recorded table may: an ability, not a duty."""

    def has_prices(self) -> bool:
        """Whether it knows the price of all that serves."""

    def price_per_hour(self, parameters: Mapping[str, ParameterValue]) -> float | None:
        """The price per hour; None for a configuration whose price is not known."""


class Endpoint(Protocol):
    """A server that is ready. Valid only inside the `with` of `Runner.launch`."""

    @property
    def url(self) -> str:
        """The URL at which the server answers, without a path: `http://127.0.0.1:21007`."""

    @property
    def cold_start_s(self) -> float:
        """Seconds from the launch to the first real request answered."""

    @property
    def client_cores(self) -> tuple[int, ...]:
        """The cores of this machine that a load generator should use (empty: any)."""

    @property
    def shares_cores(self) -> bool:
        """Whether the server may run on `client_cores` too."""

    @property
    def beside(self) -> InClusterLoad | None:
        """A place nearer to the server than this machine, where a load generator can run; None: there is none."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of measurements made from this machine must know about the way to the server."""

    @property
    def image(self) -> str | None:
        """The digest of the image that runs (`sha256:...`); None where there is none."""

    @property
    def reused_from(self) -> int | None:
        """The number of the trial that this server was launched for, if that is another trial; else None."""

    @property
    def recorded(self) -> Recorded | None:
        """Set by the replay runner alone."""

    def check(self) -> None:
        """Return at once while the server lives; raise `Infeasible` (out of memory) or `ServerFailed` else."""

    def usage(self, start: float, end: float) -> Usage:
        """What the server used between two readings of `time.monotonic()`."""


class Runner(Protocol):
    """Launches containers, one after the other or several at once from several threads."""

    @property
    def near(self) -> bool:
        """Whether a load generator on this machine is near the servers, as a rule."""

    def refuses(self, resources: Resources) -> str | None:
        """Why such a container can never run here (it asks for more cores than there are), or None. Launches
        nothing.
        """

    def place(self, folder: Path) -> Placement:
        """Choose where the next container listens and where its files will lie. Blocks nothing, may be called twice."""

    def launch(self, container: Container) -> AbstractContextManager[Endpoint]:
        """Start the container and wait until it is ready; leaving the context means that nothing of it runs.

        Raises on entering: `Infeasible`, `ServerFailed`, `RunnerUnavailable`. Whatever was started is gone by the
        time one of these, or KeyboardInterrupt, is raised. The server's output is in `folder / "server.log"`, its use
        of resources over time in `folder / "usage.csv"` once the context is left.
        """

    def close(self) -> None:
        """The last launch is over. May be called twice."""

    def remove_leftovers(self) -> list[Leftover]:
        """Remove what crashed runs left where this runner launches, and nothing of a living run; blocks until it is
        gone.
        """
