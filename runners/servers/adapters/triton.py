"""NVIDIA Triton Inference Server, by its model repository, model control and statistics extensions.

Its knobs are laid over the configuration that Triton itself made of the model (`GET .../config`), so that a model
without a config.pbtxt, or with one that names much else, is served as it stands.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from runners.host.bounded_http import bounded_client
from runners.protocol import Placement
from runners.servers import v2
from runners.servers.protocol import (
    THREADS,
    AdapterError,
    Knob,
    Model,
    ServerAddress,
    ServerCommand,
    Statistics,
    Values,
    needed,
    of_part,
    thread_environment,
    whole,
)
from runners.servers.text_proto import TextProtoError, Word, parse, written
from search_spaces.reading import InputError, is_file, read_text, shown

_LOADING_S = 300.0
_MAX_CONFIG_BYTES = 4 << 20
_NANO = 1e-9
_ACCELERATORS = {"tensorrt": "gpu_execution_accelerator", "openvino": "cpu_execution_accelerator"}


class Triton(v2.V2Server):
    """`service.model.path` is the model repository, `name` the model in it."""

    name, title = "triton", "Triton"
    documentation = "https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html"
    tried = True
    package = "nvidia-pytriton"
    image = "nvcr.io/nvidia/tritonserver:24.10-py3"
    configures_at_start = True
    part_knobs = ("batch_size", "batch_delay", "instances", "engine")
    path_is_file = True
    grpc_port, metrics_port = 0, 1  # as its own defaults are: 8000, 8001, 8002
    halves_by_grpc = True  # https://github.com/triton-inference-server/server/issues/5960
    knobs = (
        Knob("batch_size", (1, 2, 4, 8, 16, 32), ("batch_size",), live=True),
        Knob("batch_delay", (0, 1, 5), ("batch_delay",), live=True),
        Knob("instances", (1, 2, 4), ("instances", "workers"), live=True),
        Knob("engine", ("none", "tensorrt", "openvino"), ("engine",), live=True),
        THREADS,
    )

    def parts_of(self, model: Model) -> tuple[str, ...]:
        """Of an ensemble. What a model calls by itself (BLS) is in its code, and has to be named."""
        stated = _stated(model)
        return _steps(stated) if stated is not None and _is_ensemble(stated) else ()

    def check(self, model: Model, values: Values) -> None:
        """The repository holds the model and its parts."""
        needed(model, "the model repository")
        if (stated := _stated(model)) is not None and (of_part(values, None).keys() & set(self.part_knobs)):
            _refuse_ensemble(model.name, stated)
        if model.local is not None:
            models = sorted(one.name for one in model.local.iterdir() if one.is_dir()) if model.local.is_dir() else []
            for name, key in ((model.name, "name"), *((part, "parts") for part in model.parts)):
                if name not in models:
                    raise AdapterError(
                        f"{model.local} holds no model {name}; it holds {', '.join(models) or 'none'}",
                        ("service", "model", key),
                    )
        if model.venv is not None:
            _wheel(model.venv)

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """The model is loaded as it stands; `configure` brings it to its values."""
        program, words, env = ("tritonserver", (), {}) if model.venv is None else _wheel(model.venv)
        grpc = ("--grpc-address", placement.host, "--grpc-port", str(self.grpc_at(placement))) if model.grpc else None
        command = (
            program, "--model-repository", needed(model, "the model repository"), *words,
            "--model-control-mode", "explicit",
            *(word for one in (*model.parts, model.name) for word in ("--load-model", one)),
            *(("--disable-auto-complete-config",) if all(map(_is_complete, _with_parts(model))) else ()),
            "--http-address", placement.host, "--http-port", str(placement.port),
            *(grpc or ("--allow-grpc", "false")),
            "--metrics-address", placement.host, "--metrics-port", str(self.metrics_at(placement)),
        )  # fmt: skip
        note = f"its config.pbtxt belongs into the model {model.name} of the repository, over what stands there"
        files = _exported(model, of_part(values, None)) if not model.parts else _exported_parts(model, values)
        if model.parts:
            note = "each config.pbtxt belongs into the model of the repository that its folder names"
        return ServerCommand(command, env | thread_environment(values), files, note)

    def configure(self, reach: ServerAddress, model: Model, values: Values) -> None:
        """Load the model anew with the configuration that it has, changed in what is tuned; its parts before it."""
        parts = [self._configure(reach, one, of_part(values, one.name)) for one in _with_parts(model)[:-1]]
        self._configure(reach, model, of_part(values, None), parts)

    def _configure(
        self, reach: ServerAddress, model: Model, values: Values, parts: Sequence[Mapping[str, Any]] = ()
    ) -> dict[str, Any]:
        """The configuration that one model now has."""
        now = v2.get_json(reach.url, f"/v2/models/{model.quoted}/config")
        wanted = _within_parts(now, parts) if parts and _is_ensemble(now) else _changed(now, values)
        if wanted != now:
            self._load(reach, model, wanted, values)
        return wanted

    def _load(self, reach: ServerAddress, model: Model, wanted: dict[str, Any], values: Values) -> None:
        # https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
        body = {"parameters": {"config": json.dumps(wanted)}}
        path = f"/v2/repository/models/{model.quoted}/load"
        try:
            with bounded_client(timeout_s=_LOADING_S) as client:
                answer = client.post(reach.url + path, json=body)
        except httpx.HTTPError as error:
            raise AdapterError(f"Triton did not load {model.name} anew: {error or type(error).__name__}") from error
        if not answer.is_success:
            raise AdapterError(f"Triton refuses {dict(values)} for {model.name}: {answer.text[:300]}")

    def statistics(self, reach: ServerAddress, model: Model) -> Statistics | None:
        """By the statistics extension; it counts since the model was first loaded."""
        try:
            asked = _with_parts(model)[:-1] or (model,)
            found = [v2.get_json(reach.url, f"/v2/models/{one.quoted}/stats") for one in asked]
        except AdapterError:
            return None
        every = [stats for one in found for stats in one.get("model_stats") or ()]
        return Statistics(
            inferences=sum(one.get("inference_count", 0) for one in every),
            executions=sum(one.get("execution_count", 0) for one in every),
            queue_s=_NANO * sum(one.get("inference_stats", {}).get("queue", {}).get("ns", 0) for one in every),
        )


def _changed(config: dict[str, Any], values: Values) -> dict[str, Any]:
    """A model's configuration (ModelConfig as JSON) with the values of the knobs."""
    found = copy.deepcopy(config)
    batch, delay, instances = whole(values, "batch_size"), values.get("batch_delay"), whole(values, "instances")
    _refuse_ensemble(str(config.get("name")), config)
    if batch is not None:
        if batch > 1 and config.get("max_batch_size", 0) == 0:
            raise AdapterError(f"the model {config.get('name')} takes no batches: its max_batch_size is 0")
        found["max_batch_size"] = batch if config.get("max_batch_size", 0) else 0
    delay_us = None if delay is None else round(1000 * float(delay))
    if "sequence_batching" in found:  # a model has one scheduler
        found["sequence_batching"] = _sequences(found["sequence_batching"] or {}, batch, delay_us)
    else:
        if batch is not None:
            found.pop("dynamic_batching", None)
        if (batch or found.get("max_batch_size", 0)) > 1 and (batch is not None or delay is not None):
            found["dynamic_batching"] = {
                **(found.get("dynamic_batching") or {}),
                **({} if batch is None else {"preferred_batch_size": [batch]}),
                **({} if delay_us is None else {"max_queue_delay_microseconds": delay_us}),
            }
    if instances is not None:
        groups = found.get("instance_group") or [{"kind": Word("KIND_AUTO")}]
        found["instance_group"] = [{**groups[0], "count": instances}]
    if (engine := values.get("engine")) is not None:
        # https://github.com/triton-inference-server/server/blob/main/docs/user_guide/optimization.md
        found.get("optimization", {}).pop("execution_accelerators", None)
        if engine in _ACCELERATORS:
            accelerator = {_ACCELERATORS[str(engine)]: [{"name": str(engine)}]}
            found.setdefault("optimization", {})["execution_accelerators"] = accelerator
    return found


def _sequences(scheduler: dict[str, Any], batch: int | None, delay_us: int | None) -> dict[str, Any]:
    """The scheduler of a model that keeps state: sequences are batched by `oldest`, unless it says `direct`."""
    found = copy.deepcopy(scheduler)
    strategy = "direct" if "direct" in found else "oldest"
    chosen = dict(found.get(strategy) or {})
    if strategy == "oldest" and batch is not None:
        chosen["preferred_batch_size"] = [batch]
        chosen["max_candidate_sequences"] = max(batch, int(chosen.get("max_candidate_sequences") or 0))
    if delay_us is not None:
        chosen["max_queue_delay_microseconds"] = delay_us
    return {**found, strategy: chosen}


def _is_ensemble(config: Mapping[str, Any]) -> bool:
    return config.get("platform") == "ensemble" or "ensemble_scheduling" in config


def _steps(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The models of an ensemble, each once."""
    steps = (config.get("ensemble_scheduling") or {}).get("step") or []
    found = [str(one.get("model_name")) for one in (steps if isinstance(steps, list) else [steps])]
    return tuple(dict.fromkeys(found))


def _with_parts(model: Model) -> tuple[Model, ...]:
    """Every part as a model of its own, and the model itself last."""
    return (*(replace(model, name=one, parts=()) for one in model.parts), model)


def _within_parts(ensemble: dict[str, Any], parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """An ensemble whose batches are no larger than its smallest part's: Triton serves no other."""
    own = int(ensemble.get("max_batch_size") or 0)
    least = min((int(one.get("max_batch_size") or 0) for one in parts), default=own)
    return {**ensemble, "max_batch_size": min(own, least)} if own else dict(ensemble)


def _refuse_ensemble(name: str, config: Mapping[str, Any]) -> None:
    if not _is_ensemble(config):
        return
    parts = _steps(config)
    raise AdapterError(
        f"{name} is an ensemble, which has no batches and no instances of its own; tune one of its parts: "
        f"{', '.join(parts) or 'it names none'}",
        ("service", "model", "name"),
    )


def _exported_parts(model: Model, values: Values) -> dict[str, str]:
    """A file for each model of which something is tuned, in a folder of its name."""
    every = [(one.name, one, of_part(values, one.name)) for one in _with_parts(model)[:-1]]
    every.append((model.name, model, of_part(values, None)))
    return {f"{name}/{file}": text for name, one, own in every if own for file, text in _exported(one, own).items()}


def _exported(model: Model, values: Values) -> dict[str, str]:
    """The part of config.pbtxt that is tuned, to be deployed with: what is loaded, as far as that can be known here."""
    known = _stated(model)
    batch = whole(values, "batch_size")
    config = known if known is not None else {"name": model.name, "max_batch_size": batch or 2}
    changed = _changed({"name": model.name, **config}, values)
    tuned = ["name", *(["max_batch_size"] if batch is not None else []), "sequence_batching", "dynamic_batching"]
    tuned += [*(["instance_group"] if "instances" in values else []), "optimization"]
    kept = {key: changed[key] for key in tuned if key in changed and (key != "optimization" or changed[key])}
    if "sequence_batching" in kept and batch is None and "batch_delay" not in values:
        del kept["sequence_batching"]
    return {"config.pbtxt": written(kept)}


def _stated(model: Model) -> dict[str, Any] | None:
    """What the model's own config.pbtxt says; None where it lies elsewhere, or has none (Triton then makes one).

    Raises AdapterError for one that is none.
    """
    if model.local is None:
        return None
    path = model.local / model.name / "config.pbtxt"
    if not is_file(path):
        return None
    try:
        found = parse(read_text(path, _MAX_CONFIG_BYTES))
    except InputError as error:
        raise AdapterError(str(error)) from error
    except TextProtoError as error:
        raise AdapterError(f"{shown(path)} is not a model configuration: {error}") from error
    if isinstance(group := found.get("instance_group"), dict):
        found["instance_group"] = [group]
    # Without it Triton completes the configuration, as far as the backend can.
    return found if "max_batch_size" in found or _says_all(found) else {"max_batch_size": 2, **found}


def _says_all(config: Mapping[str, Any]) -> bool:
    return "input" in config and "output" in config


def _is_complete(model: Model) -> bool:
    """Whether the model says itself what it takes and gives: then Triton need not load it once more to find out."""
    stated = _stated(model)
    return stated is not None and _says_all(stated)


def _wheel(venv: Path) -> tuple[str, tuple[str, ...], dict[str, str]]:
    """The Triton inside PyPI's nvidia-pytriton: its program, where its backends are, and what it must be told to find
    its libraries. Raises AdapterError where it is not installed, or lacks what its Python backend starts.
    """
    found = next(iter(sorted(venv.glob("lib/python3*/site-packages/pytriton/tritonserver"))), None)
    if found is None:
        raise AdapterError(
            f"{venv} has no nvidia-pytriton, which carries Triton: pip install nvidia-pytriton", ("service", "venv")
        )
    packages, backends = found.parent.parent, found / "backends"
    if not (backends / "python" / "triton_python_backend_stub").is_file():
        version = packages.parent.name.removeprefix("python")
        stub = found / "python_backend_stubs" / version / "triton_python_backend_stub"
        raise AdapterError(
            f"Triton's Python backend needs its stub beside it: cp {stub} {backends}/python/", ("service", "venv")
        )
    libraries = [*(str(one) for one in packages.glob("nvidia_pytriton.libs")), *_python_libraries(venv)]
    return (
        str(found / "bin" / "tritonserver"),
        ("--backend-directory", str(backends)),
        {"LD_LIBRARY_PATH": ":".join(libraries)},
    )


def _python_libraries(venv: Path) -> list[str]:
    """Where the libpython lies of the Python that the environment was made from (`home` in its pyvenv.cfg)."""
    for line in (venv / "pyvenv.cfg").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "home":
            return [str(Path(value.strip()).parent / "lib")]
    return []
