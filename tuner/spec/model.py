"""The service spec (`version: 1`): what a user writes, checked and complete.

Every key that exists is a field here; `tuner.spec.reading` reads the YAML and places errors, `docs/spec.md` explains.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from loadtest.slo import slowest, timeout_s
from runners.servers import adapter_named
from search_spaces import ParameterValue, Role
from search_spaces.reading import quoted, why_outside
from tuner.spec.load import LoadSpec, SloSpec
from tuner.spec.prices.catalogue import OwnHardware, Terms
from tuner.spec.quality import QualitySpec
from tuner.spec.quantities import Bytes, Choice, Money, Seconds, Share
from tuner.spec.request import EnvironmentName, RequestSpec
from tuner.spec.runner import RunnerSpec
from tuner.spec.section import Section, Text, Variables

Metric = Literal["cost_per_million_requests", "cost_per_hour", "capacity_qps", "p99_ms",
                 "cost_per_million_output_tokens", "cost_per_million_tokens", "tokens_per_second",
                 "energy_per_million_output_tokens", "energy_per_million_tokens",
                 "best_effort_qps"]  # fmt: skip
Cost = Literal["cost_per_million_requests", "cost_per_hour", "cost_per_million_output_tokens",
               "cost_per_million_tokens", "energy_per_million_output_tokens",
               "energy_per_million_tokens"]  # fmt: skip


_UNREAD = (
    "a locustfile's answers are not read as streams, so nobody sees when their tokens come; limit the latency (p99) "
    "instead, or describe the requests in request in place of load.locustfile"
)
_MIN_FINAL = 4  # launches: the best and today's configuration, twice each
FINAL_OVERTIME = 2  # launches: of one that became the best when the others were launched again, and of today's


class ReadySpec(Section):
    """When a launched server counts as ready: `path` answers 2xx, and then a real request does."""

    path: str | None = Field(default=None, pattern=r"^/")
    timeout: Seconds | None = Field(default=None, description="default: 120s, or the adapter's")


class TensorSpec(Section):
    """An input of a model, as the V2 protocol describes it; -1 is any size."""

    datatype: Literal["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16",
                      "FP32", "FP64", "BYTES"] = "FP32"  # fmt: skip
    shape: tuple[int, ...] = Field(min_length=1)


class ModelSpec(Section):
    """What a server with an adapter serves; what `path` and the options mean is the adapter's matter."""

    name: str | None = Field(default=None, min_length=1, description="default: the service's name")
    path: Text | None = None
    parts: tuple[Text, ...] = Field(
        default=(),
        description="models that this one calls, which are tuned too: PART_batch_size; default: an ensemble's own",
    )
    inputs: Mapping[str, TensorSpec] = Field(default_factory=dict)
    options: Mapping[str, Text] = Field(default_factory=dict)


class ManageSpec(Section):
    """A request that tells the running server parameters: placeholders in its `path`, `json` or `body`."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    path: str = Field(pattern=r"^/")
    json_body: Any = Field(default=None, alias="json")
    body: str | None = None

    @model_validator(mode="after")
    def _one_body(self) -> ManageSpec:
        if self.json_body is not None and self.body is not None:
            raise ValueError("json and body exclude each other; keep one")
        return self


class ServiceSpec(Section):
    """How the server is started. Placeholders: any parameter, `{port}`, `{host}`, `{files}`, `{cache_dir}`; in a chain
    `{url:NAME}` and `{address:NAME}` of a service that it calls.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    server: str = "custom"
    model: ModelSpec = ModelSpec()
    venv: str | None = Field(default=None, description="Python environment to start a process from")
    secrets: tuple[EnvironmentName, ...] = Field(default=(), description="variables of tune's that the server needs")
    image: str | None = None
    command: tuple[Text, ...] = ()
    env: Variables = Field(default_factory=dict)
    files: Mapping[str, str] = Field(default_factory=dict, description="file to render -> its template")
    ready: ReadySpec = ReadySpec()
    manage: tuple[ManageSpec, ...] = ()

    @field_validator("server", mode="after")
    @classmethod
    def _known(cls, name: str) -> str:
        if name != "custom":
            adapter_named(name)  # AdapterError is a ValueError
        return name

    @field_validator("files", mode="after")
    @classmethod
    def _stay_inside(cls, files: Mapping[str, str]) -> Mapping[str, str]:
        """Their names; where templates lie is known with the spec's folder."""
        for name in files:
            if (problem := why_outside(name)) is not None:
                raise ValueError(f"{quoted(name)} {problem}; name the file within the folder {{files}}")
        return files

    @field_validator("command", mode="before")
    @classmethod
    def _is_a_list(cls, value: object) -> object:
        if isinstance(value, str):
            words = ", ".join(value.split())
            raise ValueError(f"a command is a list, since no shell reads it: [{words}]")
        return value


class ObjectiveSpec(Section):
    """What is optimised, among the configurations that meet the SLO."""

    minimize: Cost | None = None
    maximize: Literal["capacity_qps", "tokens_per_second", "best_effort_qps"] | None = None
    pareto: tuple[Metric, ...] | None = Field(default=None, min_length=2)
    target_qps: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    confidence: Share = Field(
        default=0.95, ge=0.5, lt=1, description="probability with which a recommendation must be the better one"
    )
    final: Share = Field(
        default=0.4, ge=0, le=1, description="launches of the best after the search, as a share of its trials"
    )

    @model_validator(mode="after")
    def _one_aim(self) -> ObjectiveSpec:
        if sum(aim is not None for aim in (self.minimize, self.maximize, self.pareto)) != 1:
            raise ValueError("needs exactly one of minimize, maximize and pareto")
        if "cost_per_hour" in self.metrics and self.target_qps is None:
            raise ValueError("cost_per_hour needs target_qps: the traffic that is to be served for it")
        if self.maximize == "best_effort_qps" and self.target_qps is None:
            raise ValueError("best_effort_qps needs target_qps: what the other services serve meanwhile")
        if "best_effort_qps" in (self.pareto or ()):
            raise ValueError("best_effort_qps is no part of a pareto; write {maximize: best_effort_qps, target_qps: N}")
        if self.target_qps is not None and not {"cost_per_hour", "best_effort_qps"} & set(self.metrics):
            raise ValueError("target_qps goes with cost_per_hour and best_effort_qps only")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("pareto names a metric twice")
        return self

    @property
    def held_qps(self) -> float | None:
        """The rate that every configuration has to hold; None where none is asked for."""
        return self.target_qps if self.maximize == "best_effort_qps" else None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """One metric, or several for a Pareto front."""
        if self.pareto is not None:
            return self.pareto
        return (self.maximize or self.minimize or "cost_per_million_requests",)


def final_launches(share: float, trials: int) -> int:
    """How many launches the final may take after so many trials: four at least, none where its share is 0."""
    return max(_MIN_FINAL, math.ceil(share * trials - 1e-9)) if share else 0


class ParameterSpec(Section):
    """`choices`, or the whole numbers from `low` to `high` by `step`. A bare list is its choices."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """An editor accepts what the validator does."""
        return {"anyOf": [handler(core_schema), {"type": "array", "minItems": 1}]}

    choices: tuple[Choice, ...] | None = Field(default=None, min_length=1)
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
    def _are_finite(cls, values: tuple[ParameterValue, ...] | None) -> tuple[ParameterValue, ...] | None:
        if any(isinstance(value, float) and not math.isfinite(value) for value in values or ()):
            raise ValueError("a choice must be a finite number")
        return values

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


class SpaceSpec(Section):
    """Parameters (on top of a preset's, where one is named) and the constraints between them."""

    preset: str | None = None
    parameters: Mapping[str, ParameterSpec] = Field(default_factory=dict)
    constraints: tuple[str, ...] = ()


class GpuPrice(Section):
    """Price of one GPU per hour, with its whole memory where slices are given in bytes. A bare amount is its price."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """An editor accepts what the validator does."""
        return {"anyOf": [handler(core_schema), {"type": ["number", "string"]}]}

    price: Money
    memory: Bytes | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_price(cls, value: object) -> object:
        return value if isinstance(value, Mapping) else {"price": value}


class PriceSpec(Section):
    """Prices per hour, in one currency. A `catalogue` (one of ours, or a file) or hardware of one's `own` gives those
    that are not written here. `slices` says by which share of a GPU a slice is priced. A bare name is a catalogue's.
    """

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """An editor accepts what is read."""
        return {"anyOf": [handler(core_schema), {"type": "string"}]}

    cpu_core_hour: Money = 0.0
    memory_gib_hour: Money = 0.0
    gpu_hour: Mapping[str, GpuPrice] = Field(default_factory=dict)
    slices: Literal["memory", "compute"] = "memory"
    catalogue: str | None = None
    terms: Terms = "on_demand"
    own: OwnHardware | None = None
    source: str | None = Field(default=None, description="where the prices are from; filled in from a catalogue")
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$", description="of all prices, as ISO 4217 names it")


class ColocatedSpec(Section):
    """One of several services. `share` is its part of all requests; without it, all parts are equal. Where services
    call one another, `after` names those that call this one. One that is `best_effort` takes what the others leave.
    """

    service: ServiceSpec
    share: Share | None = None
    after: tuple[str, ...] = Field(default=(), description="the services that call this one, of a chain")
    entry: bool = Field(default=False, description="the service of a chain that all requests go to")
    best_effort: bool = Field(
        default=False, description="it has no SLO, and runs only when the others do not want the cores"
    )
    users: int | None = Field(
        default=None, ge=1, le=1000, description="that ask a best-effort service all the while; default: 8"
    )
    request: RequestSpec = RequestSpec()
    slo: SloSpec | None = None
    space: SpaceSpec = SpaceSpec()
    quality: QualitySpec | None = None


class BudgetSpec(Section):
    """What several services have together. `gpu_memory` is for slices in bytes or MIG profiles, `gpus` for shares."""

    cpu_cores: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    memory: Bytes | None = None
    gpu_memory: Bytes | None = None
    gpus: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Spec(Section):
    """The whole spec."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """One service, or several."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        schema["required"] = [name for name in schema["required"] if name != "service"]
        return {**schema, "anyOf": [{"required": ["service"]}, {"required": ["services"]}]}

    version: Literal[1]
    service: ServiceSpec
    request: RequestSpec = RequestSpec()
    slo: SloSpec | None = None
    objective: ObjectiveSpec = ObjectiveSpec(minimize="cost_per_million_requests")
    space: SpaceSpec = SpaceSpec()
    prices: PriceSpec = PriceSpec()
    load: LoadSpec = LoadSpec()
    runner: RunnerSpec = RunnerSpec()
    quality: QualitySpec | None = None
    current: Mapping[str, Choice] | None = None
    services: tuple[ColocatedSpec, ...] = Field(default=(), description="several that share a machine, instead of one")
    budget: BudgetSpec = Field(default=BudgetSpec(), description="of all services together")

    @model_validator(mode="before")
    @classmethod
    def _named_after_its_services(cls, value: object) -> object:
        """Several services are one study, named after them all."""
        if not isinstance(value, Mapping) or "service" in value or not isinstance(value.get("services"), list):
            return value
        sections = [one.get("service") if isinstance(one, Mapping) else None for one in value["services"]]
        names = [str(one.get("name")) for one in sections if isinstance(one, Mapping)]
        return {**value, "service": {"name": "-".join(names)[:63].rstrip("-._") or "services"}}

    @property
    def request_timeout_s(self) -> float:
        """After how long a request is given up: as `request.timeout` says, or twice the slowest limit where that is
        longer than the default, so that a late answer has a latency instead of being an error.
        """
        given = self.request.timeout
        return timeout_s(self.slowest_limit_s) if given is None else given

    @property
    def slowest_limit_s(self) -> float:
        """The longest that an answer, or its first token, may take by any limit; 0 without one."""
        limits = self.slo.limits if self.slo else ()
        return slowest(pair for one in limits for pair in one.good or ((one.metric, one.limit_s),))

    @property
    def limits_tokens(self) -> bool:
        """Whether some limit needs streamed answers."""
        return self.slo is not None and any(one.metric != "latency" for one in self.slo.limits)

    @property
    def counts_tokens(self) -> bool:
        """Whether the objective does."""
        return any("tokens" in metric for metric in self.objective.metrics)

    @model_validator(mode="after")
    def _streams_have_tokens(self) -> Spec:
        if self.load.locustfile is not None and (self.limits_tokens or self.counts_tokens):
            section = "slo" if self.limits_tokens else "objective"
            raise ValueError(f"{section}: {_UNREAD}")
        if self.load.locustfile is not None and self.request.stream is not None:
            raise ValueError("load.locustfile: a locustfile's requests are not read as streams; remove request.stream")
        by_server = self.request.llm is not None or "stream" not in self.request.model_fields_set
        streams = self.service.server != "custom" and adapter_named(self.service.server).streams and by_server
        if self.request.stream is not None or streams:
            return self
        if self.limits_tokens:
            raise ValueError("slo: ttft, tpot, itl, goodput and tokens_per_second need request: {stream: openai}")
        if self.counts_tokens:
            raise ValueError("objective: tokens are counted in streamed answers; it needs request: {stream: openai}")
        return self


def schema_text() -> str:
    """The spec's JSON Schema, published as docs/spec.schema.json so that editors complete a spec: JSON, two spaces, a
    newline at the end.
    """
    schema = Spec.model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "tune service spec", **schema}
    return json.dumps(schema, indent=2, sort_keys=False) + "\n"
