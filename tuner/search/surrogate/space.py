"""A search space and its records in the network's terms."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from results import TrialRecord
from results.machine import TimedWork
from search_spaces import Configuration, Parameter, ParameterValue, Role, SearchSpace, quantity
from search_spaces.values import GIB, MIG_PROFILE
from tuner.search.launches import log_capacity_of
from tuner.search.machine_speed import at_mean_speed
from tuner.search.objective import undecided
from tuner.search.surrogate.encoder import PHYSICS
from tuner.search.surrogate.features import STATES, Candidates, Floats, Ints, ParameterColumn, Trials
from tuner.search.surrogate.gpus import gpu_physics, log_physics
from tuner.search.surrogate.instances import instance_hardware

_NORMAL_95 = 1.96  # standard deviations on either side of a mean hold 95% of a normal distribution
_MIN_BYTES = 2**20  # a smaller slice is no size of memory but a share or a count
_BITS = {"fp64": 64, "fp32": 32, "float32": 32, "tf32": 19, "fp16": 16, "float16": 16, "bf16": 16, "bfloat16": 16,
         "half": 16, "fp8": 8, "int8": 8, "awq": 4, "gptq": 4, "int4": 4, "nf4": 4, "fp4": 4}  # fmt: skip
_NAMES: dict[Role, re.Pattern[str]] = {
    "batch_delay": re.compile(r"delay|batch_wait|batch_timeout|batching_window"),
    "concurrency": re.compile(r"concurren|in_?flight|num_?streams"),
    "batch_size": re.compile(r"batch|max_num_seqs"),
    "instance_type": re.compile(r"instance_?type|machine_?type|^instance$|^machine$|^vm(_|$)|node_?type|^flavou?r$"),
    "gpu_type": re.compile(r"gpu_?(type|model|kind|name)|accelerator(_type)?$|^(gpu|device|hardware)$"),
    "gpu_memory_share": re.compile(r"gpu_memory_util|mem(ory)?_fraction|kv_?cache_(frac|share)"),
    "gpu_compute": re.compile(
        r"gpu_?(compute|time|core|sm|thread)|sm_?(share|percent)|time_?slice|quota|compute_?share"
    ),
    "gpu_memory": re.compile(r"gpu_?(slice|share|fraction|mem)|mig|slice|vgpu"),
    "power_cap": re.compile(r"power|watt|tdp"),
    "tensor_parallel": re.compile(r"tensor_?parallel|^tp(_|$)|tp_size"),
    "pipeline_parallel": re.compile(r"pipeline_?parallel|^pp(_|$)|pp_size"),
    "sequence_parallel": re.compile(r"ulysses|ring|(sequence|context|spatial)_?parallel|^(sp|cp)(_|$)"),
    "gpus": re.compile(r"^(n_?|num_?|number_of_)?gpus?(_?count|_?number|_per_.*)?$|accelerator_?count"),
    "instances": re.compile(r"instances?(_count)?$"),
    "workers": re.compile(r"worker|process"),
    "threads": re.compile(r"thread"),
    "cpu_cores": re.compile(r"cores?$|cpus?$|vcpu"),
    "memory": re.compile(r"^(memory|ram|mem)"),
    "precision": re.compile(r"precision|dtype|quantiz"),
    "replicas": re.compile(r"replica"),
    "engine": re.compile(r"engine|backend|framework|runtime|allocator"),
    "compile": re.compile(r"compile|cuda_?graph"),
}
_NAMED_BY_TEXT = (
    "gpu_type",
    "instance_type",
    "engine",
)  # their choices are names; a number called so is something else
_CPU_BOUND, _GPU_BOUND = ("cpu", "throttling"), ("gpu",)
_OUT_OF_MEMORY = re.compile(r"memory|oom", re.IGNORECASE)


def candidates_of(
    space: SearchSpace, configurations: Sequence[Configuration], price: Callable[[Configuration], float | None]
) -> Candidates:
    """`price` is per hour, None where it is not known."""
    columns = tuple(_column(parameter, configurations) for parameter in space.parameters)
    prices = [price(configuration) for configuration in configurations]
    log_price = np.array([math.log(one) if one else math.nan for one in prices])
    return Candidates(columns, log_price, _physics(space, configurations))


def trials_of(
    records: Sequence[TrialRecord],
    number_of: Callable[[TrialRecord], int | None],
    space: SearchSpace,
    limit_ms: float | None,
) -> Trials:
    """Those that proved something, each as it would have been at the machine's mean speed. `number_of` says where a
    record's configuration stands among the candidates.
    """
    rows: list[tuple[int, int, float, float, list[float], float, float, float]] = []
    for record in records:
        where = number_of(record)
        state, capacity = _state(record), record.capacity_qps
        proved = log_capacity_of(record, capacity) if capacity and capacity.value else _log(record.capacity_bound_qps)
        saturated = _log(record.saturated_qps)
        if undecided(record):  # what it answered at full load bounds what it holds, unless the generator was the limit
            proved = math.nan if record.bottleneck == "client" else saturated
        if where is None or (state <= 1 and math.isnan(proved)):
            continue
        rows.append((where, state, 0.0 if math.isnan(proved) else proved, saturated,
                     _measured(record, space, limit_ms), _error(record), *TimedWork.of(record)))  # fmt: skip
    if not rows:
        return Trials.none()
    columns = map(np.array, zip(*rows, strict=True))
    index, states, log_capacity, log_saturated, measured, error, work, work_error = columns
    correction = at_mean_speed(index, work, work_error, np.where(states == 0, log_capacity, np.nan), error)
    log_capacity = log_capacity + np.where(states <= 1, correction.shift, 0.0)
    log_saturated = log_saturated + correction.shift
    error = np.hypot(error, correction.error)
    error = np.hypot(error, _launch_spread(index, states, log_capacity))
    return Trials(index, states, log_capacity, log_saturated, measured, error)


def _launch_spread(index: Ints, states: Ints, log_capacity: Floats) -> float:
    """The standard deviation from launch to launch, pooled over the configurations that were measured more than once; 0
    while none was. (With the usual one from the first trial on, searches under noise ended no nearer to the best.)
    """
    complete = index[states == 0]
    each, count = np.unique(complete, return_counts=True)
    repeated = [log_capacity[(index == one) & (states == 0)] for one in each[count > 1]]
    degrees = sum(len(one) - 1 for one in repeated)
    return math.sqrt(sum(float(((one - one.mean()) ** 2).sum()) for one in repeated) / degrees) if degrees else 0.0


def _error(record: TrialRecord) -> float:
    """The standard deviation of the log capacity by its own 95% interval; nan where it has none."""
    capacity = record.capacity_qps
    if capacity is None or not 0 < capacity.low <= capacity.high:
        return math.nan
    return math.log(capacity.high / capacity.low) / (2 * _NORMAL_95)


def _state(record: TrialRecord) -> int:
    if record.state == "infeasible":
        return STATES.index("oom" if _OUT_OF_MEMORY.search(record.reason or "") else "slow")
    return STATES.index("pruned" if undecided(record) else record.state)


def _measured(record: TrialRecord, space: SearchSpace, limit_ms: float | None) -> list[float]:
    """In the order of MEASURED; nan where it is not known."""
    cores, memory = _granted(record, space, "cpu_cores"), _granted(record, space, "memory")
    latency, use = record.latency, record.use
    p99 = latency.p99_ms.value if latency.p99_ms else None
    bound = record.bottleneck
    return [
        math.log(p99 / limit_ms) if p99 and limit_ms else math.nan,
        math.log(latency.p50_ms / limit_ms) if latency.p50_ms and limit_ms else math.nan,
        math.log(latency.base_latency_ms / limit_ms) if latency.base_latency_ms and limit_ms else math.nan,
        use.cpu_cores_used / cores if use.cpu_cores_used is not None and cores else math.nan,
        math.nan if use.gpu_utilization is None else use.gpu_utilization,
        use.memory_peak_bytes / memory if use.memory_peak_bytes and memory else math.nan,
        math.nan if bound is None else float(bound in _CPU_BOUND),
        math.nan if bound is None else float(bound in _GPU_BOUND),
    ]


def _granted(record: TrialRecord, space: SearchSpace, role: Role) -> float | None:
    """Cores, or bytes."""
    parameter = _with_role(space, role)
    value = record.configuration.get(parameter.name) if parameter else None
    found = None if value is None else quantity(value)
    return found if isinstance(found, float | int) else None


def _column(parameter: Parameter, configurations: Sequence[Configuration]) -> ParameterColumn:
    """A value that is none of the choices, as an earlier study may have it, stands between its neighbours."""
    role = _role(parameter)
    numbers = [_number(role, choice) for choice in parameter.choices]
    found = [one.get(parameter.name) for one in configurations]
    if any(number is None for number in numbers) or role == "gpu_type":
        ranks = [-1 if value is None else SearchSpace.rank(parameter, value) for value in found]
        categories = np.array([-1 if rank is None else rank for rank in ranks])
        return ParameterColumn(role, categories * 1.0, categories * 0.0, categories)
    choices = np.unique(np.array([number for number in numbers if number is not None]))
    known = dict(zip(parameter.choices, numbers, strict=True))
    values = np.array([math.nan if one is None else _value(known, role, one) for one in found])
    places = np.interp(values, choices, np.linspace(0, 1, len(choices))) if len(choices) > 1 else values * 0.0
    return ParameterColumn(role, values, places)


def _value(known: dict[ParameterValue, float | None], role: str | None, value: ParameterValue) -> float:
    found = known.get(value)
    found = _number(role, value) if found is None else found
    return math.nan if found is None else found


def _role(parameter: Parameter) -> Role | None:
    """As the spec says, or what the name suggests. Only the network hears of a guess, as what to expect at first."""
    suggested = next((role for role, pattern in _NAMES.items() if pattern.search(parameter.name.lower())), None)
    if suggested == "gpu_type" and parameter.ordered:
        suggested = "gpus"
    if suggested in _NAMED_BY_TEXT and parameter.ordered:
        suggested = None
    return parameter.role or suggested


def _with_role(space: SearchSpace, role: Role) -> Parameter | None:
    return next((parameter for parameter in space.parameters if _role(parameter) == role), None)


def _number(role: str | None, choice: ParameterValue) -> float | None:
    """In the unit that the network knows: GiB, milliseconds, bits; a slice's size in any unit."""
    if role == "precision" and isinstance(choice, str):
        return _BITS.get(choice.lower())
    if role == "gpu_memory" and isinstance(choice, str) and (slice_ := MIG_PROFILE.search(choice.lower())):
        return float(slice_[1])
    found = quantity(choice)
    if isinstance(found, str):
        return None
    if role == "memory":
        return found / GIB
    if role == "batch_delay" and isinstance(choice, str):
        return found * 1e3
    return float(found)


def _physics(space: SearchSpace, configurations: Sequence[Configuration]) -> Floats:
    """The hardware of each configuration: a column for each of PHYSICS, in logs, nan where it is not known."""
    holders = {role: _with_role(space, role) for role in ("gpu_type", "gpu_memory", "gpu_compute", "gpus", "cpu_cores",
                                                          "memory", "instance_type")}  # fmt: skip
    rows = np.full((len(configurations), len(PHYSICS)), math.nan)
    for row, one in zip(rows, configurations, strict=True):
        given = {role: one.get(parameter.name) for role, parameter in holders.items() if parameter is not None}
        machine = instance_hardware(str(given["instance_type"])) if "instance_type" in given else None
        name = str(given["gpu_type"]) if "gpu_type" in given else (machine.gpu if machine else None)
        if name is not None:
            slice_, part = holders["gpu_memory"], holders["gpu_compute"]
            physics = gpu_physics(name)
            compute, memory = (1.0, 1.0) if slice_ is None else _shares(slice_, one, physics)
            if part is not None and given.get("gpu_compute") is not None:
                # MPS and HAMi bound the compute by this alone, whatever part of the memory is granted: a share of
                # memory is none of compute then. A MIG profile has both, and a share of compute is one of its own.
                own = compute if (slice_ is not None and _is_mig(one.get(slice_.name))) or compute == 0 else 1.0
                compute = own * _shares(part, one, physics)[0]
            if compute > 0 and given.get("gpus") != 0:  # a share of 0 is no GPU
                row[:3] = log_physics(name, compute, memory)
        cores, gib, gpus = given.get("cpu_cores"), given.get("memory"), given.get("gpus")
        row[3] = _log(cores if cores is not None else (machine.cores if machine else None))
        row[4] = _log(gib, GIB) if gib is not None else _log(machine.memory_gib if machine else None)
        row[5] = _log(gpus if gpus is not None else (machine.gpus if machine else None))
    return rows


def _is_mig(value: ParameterValue | None) -> bool:
    return isinstance(value, str) and MIG_PROFILE.search(value.lower()) is not None


def _log(value: ParameterValue | None, unit: float = 1.0) -> float:
    """Nan where there is no number above 0."""
    number = None if value is None else quantity(value)
    return math.log(number / unit) if isinstance(number, float) and number > 0 else math.nan


def _shares(
    parameter: Parameter, configuration: Configuration, physics: tuple[float, float, float] | None
) -> tuple[float, float]:
    """Of the GPU's compute and memory that a slice is: a share, a MIG profile (3g.40gb), a size of memory, or a number
    of slices of which the largest choice is the whole.
    """
    gib, value = physics[2] if physics else None, configuration.get(parameter.name)
    if isinstance(value, str) and (found := MIG_PROFILE.search(value.lower())):
        return float(found[1]) / 7, min(1.0, float(found[2]) / gib) if gib else 1.0
    size = None if value is None else quantity(value)
    sizes = [choice for choice in map(quantity, parameter.choices) if not isinstance(choice, str)]
    if size is None or isinstance(size, str) or not sizes:
        return 1.0, 1.0
    whole = 1.0 if max(sizes) <= 1 else (max(sizes) if max(sizes) < _MIN_BYTES else (gib or 0.0) * GIB)
    share = 0.0 if size == 0 else min(1.0, max(size / whole, 1e-3)) if whole else 1.0
    return share, share
