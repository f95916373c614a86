"""The seam between the tuner and the kinds of inference servers. Contract tests ship in `runners.servers.testing`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple
from urllib.parse import quote

from runners.protocol import ParameterValue, Placement

Values = Mapping[str, ParameterValue]


class AdapterError(ValueError):
    """What the spec asks of this server cannot be. `key` is the part of `service` (or of `request`) that is wrong."""

    def __init__(self, message: str, key: tuple[str, ...] = ("service", "model")) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Tensor:
    """One input of a model. `datatype` is the V2 protocol's (FP32, INT64, BYTES, ...), -1 in `shape` is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """What the server is to serve. `path` is where the server finds it, `local` the same on this machine (None: it lies
    in an image, or is a name that the server downloads by). `venv` is the virtual environment that the server is
    started from, where it is started here and in one. `options` are the adapter's own. `grpc`: it is asked by gRPC too.
    `contained`: the server runs in a container. `parts` are models that this one calls, which are tuned too: the value
    of a part's knob is called `part/knob`.
    """

    name: str
    path: str | None = None
    local: Path | None = None
    venv: Path | None = None
    inputs: tuple[Tensor, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    grpc: bool = False
    contained: bool = False
    parts: tuple[str, ...] = ()

    @property
    def quoted(self) -> str:
        """The name as a part of a URL's path."""
        return quote(self.name, safe="")

    def number(self, option: str, default: int) -> int:
        """An option that is a whole number above 0. Raises AdapterError."""
        given = self.options.get(option, str(default))
        if not given.isdecimal() or int(given) == 0:
            raise AdapterError(f"{given!r} is not a whole number above 0", ("service", "model", "options", option))
        return int(given)


@dataclass(frozen=True)
class Knob:
    """Something that can be tuned about a server. A parameter of its name reaches it, or one of one of its roles.

    `choices` are those of the server's preset. `live`: a running server can be told. `since`: the first version of the
    server's package that has it.
    """

    name: str
    choices: tuple[ParameterValue, ...]
    roles: tuple[str, ...] = ()
    live: bool = False
    since: tuple[int, ...] = ()


@dataclass(frozen=True)
class ServerCommand:
    """How the server is started: the words of its command, its environment and the text of its files. `note` is what
    whoever deploys it so has to know.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class ServerRequest:
    """What a prediction is asked by. No `bodies`: the model's own description, asked of the running server, says them.

    `stream` is `openai` where the answer is a stream of tokens.
    """

    path: str
    bodies: tuple[bytes, ...] = ()
    method: str = "POST"
    content_type: str = "application/json"
    stream: str | None = None


@dataclass(frozen=True)
class ServerAddress:
    """Where a running server is reached from here: `url`, and those of its other ports (None: not from here)."""

    url: str
    more: tuple[str | None, ...] = ()


# As 0.1.0 named them; adapters of other packages import them.
Launch = ServerCommand
Reach = ServerAddress


@dataclass(frozen=True)
class Statistics:
    """The server's own counters since it started: single inferences, executions (batches) and seconds in its queue; of
    a language model, prompt tokens that its cache of prefixes was asked for, and those that it had.

    None: not counted.
    """

    inferences: float | None = None
    executions: float | None = None
    queue_s: float | None = None
    cache_queries: float | None = None
    cache_hits: float | None = None


@dataclass(frozen=True)
class CacheCounters:
    """The names under which a server's metrics, at `path`, count the prompt tokens that its cache of prefixes was asked
    for, and those that it had. A POST to `reset` empties the cache, of a server that is started so that it can.
    """

    queries: str
    hits: str
    reset: str | None = None
    path: str = "/metrics"


class GpuImage(NamedTuple):
    """A public image for GPUs, where one generation has another than the next: for those of these types."""

    name: str
    types: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name + (f" ({', '.join(self.types)})" if self.types else "")


class ServerAdapter:
    """One kind of server. Subclasses set the class's fields, and write at least `launch` and `request`.

    `package` is the Python package that holds the server, as do its `flavours`; `image` a public container image, and
    `gpu_images` those in its place for GPUs, where it cannot use them. `tried` says whether it was run by the tests of
    this product, or written from its documentation. `path_is_file`: the model's path is a file or a folder, not a name.
    `configures_at_start`: a server that has just been started is configured as one that runs. `streams`: its answers
    are streams of tokens. `grpc_port` says which of the placement's further ports answers the V2 protocol over gRPC,
    where `Model.grpc` asks for it, `metrics_port` which one Prometheus can ask in a deployment, where that is not the
    first. `variables`: knob -> the variable of the environment by which it reaches the user's
    own code. `parallel`: the knobs whose product is the number of GPUs that a server takes. `part_knobs`: those that a
    model has that another one calls.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    documentation: ClassVar[str]
    tried: ClassVar[bool] = False
    grpc_port: ClassVar[int | None] = None
    metrics_port: ClassVar[int | None] = None
    package: ClassVar[str | None] = None
    flavours: ClassVar[tuple[str, ...]] = ()
    image: ClassVar[str | None] = None
    gpu_images: ClassVar[tuple[GpuImage, ...]] = ()
    ready_timeout_s: ClassVar[float] = 120.0
    knobs: ClassVar[tuple[Knob, ...]] = ()
    variables: ClassVar[Mapping[str, str]] = {}
    parallel: ClassVar[tuple[str, ...]] = ()
    prefix_cache: ClassVar[CacheCounters | None] = None
    configures_at_start: ClassVar[bool] = False
    path_is_file: ClassVar[bool] = False
    streams: ClassVar[bool] = False
    fixes_lengths: ClassVar[bool] = False
    part_knobs: ClassVar[tuple[str, ...]] = ()

    def gpus_constraint(self, names: Collection[str], gpus: str | None) -> str | None:
        """What the parameter `gpus`, the number of a replica's GPUs, has to equal, as a spec's constraint. `names` are
        those of all parameters. None where no parameter has that role, or this kind of server takes one GPU only.
        """
        if gpus is None or not self.parallel:
            return None
        return f"{gpus} == {' * '.join(name for name in self.parallel if name in names) or '1'}"

    @property
    def describes_models(self) -> bool:
        """Whether its running server can say what a model takes."""
        return type(self).bodies is not ServerAdapter.bodies

    def grpc_at(self, placement: Placement) -> int:
        """The port that gRPC is answered on; beside the first where the placement has no further ones."""
        return _further_port(placement, self.grpc_port or 0)

    def metrics_at(self, placement: Placement) -> int:
        """The port that metrics are answered on; beside the first where the placement has no further ones."""
        return _further_port(placement, self.metrics_port or 0)

    def parts_of(self, model: Model) -> tuple[str, ...]:  # noqa: ARG002
        """The models that this one calls, as far as its files say; each of them has knobs of its own."""
        return ()

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """Raises AdapterError for what can be known to be wrong before anything is launched."""
        return

    def ready_path(self, model: Model) -> str | None:  # noqa: ARG002
        """A path that answers 2xx once predictions can be asked; None where the server has none."""
        return None

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """`values` holds the knobs that are tuned, by name; the server's own default holds for every other."""
        raise NotImplementedError

    def request(self, model: Model) -> ServerRequest:
        """The request by which predictions are asked for."""
        raise NotImplementedError

    def bodies(self, reach: ServerAddress, model: Model) -> tuple[bytes, ...]:
        """Request bodies made from what the running server says of the model. Raises AdapterError."""
        raise NotImplementedError

    def configure(self, reach: ServerAddress, model: Model, values: Values) -> None:
        """Bring a running server to these values of its live knobs; blocks until it serves by them. Raises AdapterError
        with what the server answered.
        """
        raise NotImplementedError

    def statistics(self, reach: ServerAddress, model: Model) -> Statistics | None:  # noqa: ARG002
        """What it has counted so far; None where it cannot be asked."""
        return None


def _further_port(placement: Placement, at: int) -> int:
    return placement.more[at] if at < len(placement.more) else placement.port + 1 + at


def of_part(values: Values, part: str | None) -> dict[str, ParameterValue]:
    """The knobs of one of the model's parts, by their own names; None: those of the model itself."""
    if part is None:
        return {name: value for name, value in values.items() if "/" not in name}
    own = f"{part}/"
    return {name.removeprefix(own): value for name, value in values.items() if name.startswith(own)}


def whole(values: Values, knob: str) -> int | None:
    """The value of a knob as a whole number; None where it is not tuned. Raises AdapterError for what is none."""
    value = values.get(knob)
    if value is None:
        return None
    try:
        return int(float(value))
    except (ValueError, OverflowError) as error:
        raise AdapterError(f"{value!r} is not a whole number", ("space", "parameters", knob)) from error


def flag(values: Values, knob: str) -> bool | None:
    """The value of a knob that is on or off. Raises AdapterError for what is neither."""
    value = values.get(knob)
    if value is None:
        return None
    found = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}.get(str(value).lower())
    if found is None:
        raise AdapterError(f"{value!r} is neither true nor false", ("space", "parameters", knob))
    return found


def flags(values: Values, names: Mapping[str, str]) -> tuple[str, ...]:
    """`--flag value` for each tuned knob, by the names of its flags."""
    return tuple(word for knob, name in names.items() if knob in values for word in (name, as_text(values[knob])))


def as_text(value: ParameterValue) -> str:
    """A value as it is written in a command or a file."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def thread_environment(values: Values) -> dict[str, str]:
    """What the mathematical libraries read: OpenMP, MKL and OpenBLAS."""
    threads = whole(values, "threads")
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {} if threads is None else dict.fromkeys(names, str(threads))


def needed(model: Model, what: str) -> str:
    """The model's path. Raises AdapterError saying what it must be."""
    if model.path is None:
        raise AdapterError(f"needs path: {what}")
    return model.path


def python_object(model: Model, what: str) -> tuple[str, str]:
    """Module and name of what the path names: `server:MyAPI`. Raises AdapterError saying what it must be."""
    module, _, name = needed(model, f"the {what}, as module:name").partition(":")
    if not all(module.split(".")) or not name.isidentifier():
        raise AdapterError(f"{model.path!r} names no {what}; write module:name", ("service", "model", "path"))
    return module, name


THREADS = Knob("threads", (1, 2, 4), ("threads",))
WORKERS = Knob("workers", (1, 2, 4), ("workers",))
