"""MLServer, the Python server of Seldon and KServe, configured by its environment."""

from __future__ import annotations

from pathlib import Path

from runners.protocol import Placement
from runners.servers import v2
from runners.servers.protocol import (
    THREADS,
    AdapterError,
    Knob,
    Model,
    ServerCommand,
    Values,
    needed,
    thread_environment,
    whole,
)
from search_spaces.reading import InputError, is_file, read_json

_SETTING = {"batch_size": "max_batch_size", "batch_delay": "max_batch_time", "workers": "parallel_workers"}
# What the server is told by its environment, which its own settings.json would beat.
_OWN_SETTINGS = {"host", "http_port", "grpc_port", "metrics_port", "metrics_dir", "environments_dir"}
_MAX_SETTINGS_BYTES = 4 << 20


class MlServer(v2.V2Server):
    """`service.model.path` is the folder that `mlserver start` is given."""

    name, title = "mlserver", "MLServer"
    documentation = "https://mlserver.readthedocs.io/en/stable/reference/settings.html"
    tried = True
    package = "mlserver"
    image = "seldonio/mlserver:1.7.1"
    path_is_file = True
    grpc_port = 0
    knobs = (
        Knob("batch_size", (1, 4, 16, 32), ("batch_size",), since=(1, 0)),
        Knob("batch_delay", (0, 1, 5), ("batch_delay",), since=(1, 0)),
        Knob("workers", (1, 2, 4), ("workers",), since=(1, 1)),
        THREADS,
    )

    def check(self, model: Model, values: Values) -> None:
        """The model is there, and its settings leave the knobs alone: what they say beats the environment."""
        needed(model, "the folder with model-settings.json")
        if model.local is None:
            return
        settings = {path: _read(path) for path in sorted(model.local.rglob("model-settings.json"))}
        names = {str(content.get("name")): path for path, content in settings.items()}
        if model.name not in names:
            found = f"it holds {', '.join(names)}" if names else "it has no model-settings.json"
            raise AdapterError(f"{model.local} holds no model {model.name}; {found}", ("service", "model", "name"))
        path = names[model.name]
        for knob, setting in _SETTING.items():
            if knob in values and setting in settings[path]:
                raise AdapterError(f"{path} sets {setting}, which beats the value that is tuned; remove it there")
        own = model.local / "settings.json"
        own_settings = _OWN_SETTINGS | ({"parallel_workers"} if "workers" in values else set())
        for setting in sorted(_read(own).keys() & own_settings):
            raise AdapterError(f"{own} sets {setting}, which beats what the server is told; remove it there")

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """All by the environment."""
        env = {
            "MLSERVER_HOST": placement.host,
            "MLSERVER_HTTP_PORT": str(placement.port),
            "MLSERVER_METRICS_DIR": f"{placement.scratch}/metrics",
            "MLSERVER_ENVIRONMENTS_DIR": f"{placement.scratch}/environments",
            **dict(zip(("MLSERVER_GRPC_PORT", "MLSERVER_METRICS_PORT"), map(str, placement.more), strict=False)),
        }
        settings = {}
        if (workers := whole(values, "workers")) is not None:
            env["MLSERVER_PARALLEL_WORKERS"] = str(workers)
        if (batch := whole(values, "batch_size")) is not None:
            settings["max_batch_size"] = str(batch)
        if (delay := values.get("batch_delay")) is not None or (batch or 0) > 1:
            # A batch needs some time to fill, or MLServer makes none.
            settings["max_batch_time"] = f"{max(float(delay or 0), 0.1 if (batch or 0) > 1 else 0) / 1e3:g}"
        env |= {f"MLSERVER_MODEL_{name.upper()}": value for name, value in settings.items()}
        return ServerCommand(
            ("mlserver", "start", needed(model, "the folder with model-settings.json")),
            env | thread_environment(values),
        )


def _read(path: Path) -> dict[str, object]:
    if not is_file(path):
        return {}
    try:
        content = read_json(path, _MAX_SETTINGS_BYTES)
    except InputError as error:
        raise AdapterError(str(error)) from error
    return content if isinstance(content, dict) else {}
