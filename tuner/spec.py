"""The service spec (`version: 1`): what a user writes, checked and complete.

Every key that exists is a field here; `tuner.spec_file` reads the YAML and places errors, `docs/spec.md` explains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from search_spaces import ParameterValue, Role
from tuner.quantities import Bytes, Money, Seconds, Share

Metric = Literal["cost_per_million_requests", "cost_per_hour", "capacity_qps", "p99_ms"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _plain_text(value: object) -> object:
    """`OMP_NUM_THREADS: 4` and `--port, 8000` mean text; what else YAML reads there is a mistake worth an error."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Text = Annotated[str, BeforeValidator(_plain_text)]


class ReadySpec(_Section):
    """When a launched server counts as ready: `path` answers 2xx, and then a real request does."""

    path: str | None = Field(default=None, pattern=r"^/")
    timeout: Seconds = 120.0


class ServiceSpec(_Section):
    """How the server is started. Placeholders: any parameter, `{port}`, `{host}` and `{files}`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    server: Literal["custom"] = "custom"
    image: str | None = None
    command: tuple[Text, ...] = ()
    env: Mapping[str, Text] = Field(default_factory=dict)
    files: Mapping[str, str] = Field(default_factory=dict, description="file to render -> its template")
    ready: ReadySpec = ReadySpec()

    @field_validator("command", mode="before")
    @classmethod
    def _is_a_list(cls, value: object) -> object:
        if isinstance(value, str):
            words = ", ".join(value.split())
            raise ValueError(f"a command is a list, since no shell reads it: [{words}]")
        return value


class RequestSpec(_Section):
    """One request: a JSON body, a text body, or a file of JSON lines from which every request draws one."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = "POST"
    path: str = Field(default="/", pattern=r"^/")
    headers: Mapping[str, Text] = Field(default_factory=dict)
    json_body: Any = Field(default=None, alias="json")
    body: str | None = None
    dataset: str | None = None
    timeout: Seconds = 10.0

    @model_validator(mode="after")
    def _one_body(self) -> RequestSpec:
        given = [name for name, value in (("json", self.json_body), ("body", self.body), ("dataset", self.dataset))
                 if value is not None]  # fmt: skip
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other; keep one")
        return self


class SloSpec(_Section):
    """Latency limits by percentile, and the share of errors; errors count as misses of every limit as well."""

    p50: Seconds | None = None
    p90: Seconds | None = None
    p95: Seconds | None = None
    p99: Seconds | None = None
    p999: Seconds | None = Field(default=None, alias="p99.9")
    error_rate: Share | None = None

    @model_validator(mode="after")
    def _has_a_limit(self) -> SloSpec:
        if not self.limits:
            raise ValueError("needs a latency limit, such as p99: 50ms")
        return self

    @property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """(percentile, limit in seconds), by percentile."""
        pairs = ((50.0, self.p50), (90.0, self.p90), (95.0, self.p95), (99.0, self.p99), (99.9, self.p999))
        return tuple((percentile, limit) for percentile, limit in pairs if limit is not None)


class ObjectiveSpec(_Section):
    """What is optimised, among the configurations that meet the SLO."""

    minimize: Literal["cost_per_million_requests", "cost_per_hour"] | None = None
    maximize: Literal["capacity_qps"] | None = None
    pareto: tuple[Metric, ...] | None = Field(default=None, min_length=2)
    target_qps: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_aim(self) -> ObjectiveSpec:
        if sum(aim is not None for aim in (self.minimize, self.maximize, self.pareto)) != 1:
            raise ValueError("needs exactly one of minimize, maximize and pareto")
        if "cost_per_hour" in self.metrics and self.target_qps is None:
            raise ValueError("cost_per_hour needs target_qps: the traffic that is to be served for it")
        if self.target_qps is not None and "cost_per_hour" not in self.metrics:
            raise ValueError("target_qps goes with cost_per_hour only")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("pareto names a metric twice")
        return self

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """One metric, or several for a Pareto front."""
        if self.pareto is not None:
            return self.pareto
        return (self.maximize or self.minimize or "cost_per_million_requests",)


class ParameterSpec(_Section):
    """`choices`, or the whole numbers from `low` to `high` by `step`."""

    choices: tuple[ParameterValue, ...] | None = Field(default=None, min_length=1)
    low: int | None = None
    high: int | None = None
    step: int = Field(default=1, ge=1)
    role: Literal[Role, "none"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_list(cls, value: object) -> object:
        return {"choices": value} if isinstance(value, list | tuple) else value

    @field_validator("choices", mode="after")
    @classmethod
    def _whole_numbers(cls, values: tuple[ParameterValue, ...] | None) -> tuple[ParameterValue, ...] | None:
        """2.0 is written as 2 in a command line, and a table's 2 is found."""
        if values is None:
            return None
        if any(isinstance(value, float) and not math.isfinite(value) for value in values):
            raise ValueError("a choice must be a finite number")
        return tuple(int(v) if isinstance(v, float) and v.is_integer() else v for v in values)

    @model_validator(mode="after")
    def _choices_or_range(self) -> ParameterSpec:
        ranged = self.low is not None or self.high is not None
        if (self.choices is not None) == ranged:
            raise ValueError("needs either choices, as in [1, 2, 4], or low and high (and step)")
        if ranged and (self.low is None or self.high is None or self.low > self.high):
            raise ValueError("needs both low and high, and low not above high")
        if not ranged and self.step != 1:
            raise ValueError("step goes with low and high, not with choices")
        return self


class SpaceSpec(_Section):
    """Parameters (on top of a preset's, where one is named) and the constraints between them."""

    preset: str | None = None
    parameters: Mapping[str, ParameterSpec] = Field(default_factory=dict)
    constraints: tuple[str, ...] = ()


class GpuPrice(_Section):
    """Price of one GPU per hour, with its whole memory where slices are given in bytes."""

    price: Money
    memory: Bytes | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_price(cls, value: object) -> object:
        return value if isinstance(value, Mapping) else {"price": value}


class PriceSpec(_Section):
    """Prices per hour, in one currency."""

    cpu_core_hour: Money = 0.0
    memory_gib_hour: Money = 0.0
    gpu_hour: Mapping[str, GpuPrice] = Field(default_factory=dict)


class LoadSpec(_Section):
    """How a trial loads the server. `max_trial` bounds warm-up and load of one trial, not the server's start."""

    max_trial: Seconds = 90.0
    max_warmup: Seconds = 15.0
    arrivals: Literal["poisson", "constant"] = "poisson"


class RunnerSpec(_Section):
    """Where servers run. `table` is the replay runner's CSV file."""

    type: Literal["process", "replay"] = "process"
    table: str | None = None

    @model_validator(mode="after")
    def _table_for_replay(self) -> RunnerSpec:
        if (self.type == "replay") != (self.table is not None):
            raise ValueError("type: replay needs table: FILE.csv, and nothing else has one")
        return self


class Spec(_Section):
    """The whole spec."""

    version: Literal[1]
    service: ServiceSpec
    request: RequestSpec = RequestSpec()
    slo: SloSpec | None = None
    objective: ObjectiveSpec = ObjectiveSpec(minimize="cost_per_million_requests")
    space: SpaceSpec
    prices: PriceSpec = PriceSpec()
    load: LoadSpec = LoadSpec()
    runner: RunnerSpec = RunnerSpec()
    current: Mapping[str, ParameterValue] | None = None
