"""TorchServe: its config.properties, and its management API, which registers a model with a batch size of its own.

While it is tuned the model is registered by the API, because what config.properties says of a model beats what the
API asks for. An exported config.properties names the model, and keeps the API on the machine itself.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import httpx

from runners.host.bounded_http import bounded_client
from runners.protocol import Placement
from runners.servers.exposition import summed_samples
from runners.servers.protocol import (
    THREADS,
    AdapterError,
    GpuImage,
    Knob,
    Model,
    ServerAdapter,
    ServerAddress,
    ServerCommand,
    ServerRequest,
    Statistics,
    Values,
    needed,
    thread_environment,
    whole,
)

_REGISTERING_S = 300.0
_MAX_DEPTH = 100  # of the archive's YAML: the reader's time grows with the square of the depth
# To the console alone, and not a line per request: its own default writes both to files in the folder it is started in.
_LOGGING = """\
<?xml version="1.0" encoding="UTF-8"?>
<Configuration>
  <Appenders>
    <Console name="console"><PatternLayout pattern="%d{ISO8601} [%-5p] %t %c - %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Logger name="ACCESS_LOG" level="off"/>
    <Logger name="TS_METRICS" level="off"/>
    <Logger name="MODEL_METRICS" level="off"/>
    <Root level="info"><AppenderRef ref="console"/></Root>
  </Loggers>
</Configuration>
"""
_IN_ARCHIVE = (
    ("batch_size", "batchSize"), ("batch_delay", "maxBatchDelay"), ("workers", "minWorkers"), ("workers", "maxWorkers")
)  # fmt: skip


class TorchServe(ServerAdapter):
    """`service.model.path` is the model's archive (a .mar file)."""

    name, title = "torchserve", "TorchServe"
    documentation = "https://docs.pytorch.org/serve/configuration.html"
    tried = True
    package = "torchserve"
    image = "pytorch/torchserve:0.12.0-cpu"
    gpu_images = (GpuImage("pytorch/torchserve:0.12.0-gpu"),)
    configures_at_start = True
    path_is_file = True
    metrics_port = 1
    knobs = (
        Knob("batch_size", (1, 2, 4, 8, 16), ("batch_size",), live=True),
        Knob("batch_delay", (1, 5, 20), ("batch_delay",), live=True),
        Knob("workers", (1, 2, 4), ("workers", "instances"), live=True),
        THREADS,
    )

    def ready_path(self, model: Model) -> str:  # noqa: ARG002
        """Of the server."""
        return "/ping"

    def check(self, model: Model, values: Values) -> None:
        """The archive is one, its own settings leave the knobs alone, and there is a Java to run it."""
        path = needed(model, "the model's archive, as in model_store/digits.mar")
        if not path.endswith(".mar"):
            raise AdapterError(
                f"{path} is no model archive (.mar); torch-model-archiver makes one", ("service", "model", "path")
            )
        if model.venv is not None and shutil.which("java") is None:
            raise AdapterError("TorchServe needs Java 17, and there is no java on the PATH", ("service", "server"))
        if model.local is None:
            return
        settings = _settings(model.local)
        for knob, key in _IN_ARCHIVE:
            if knob in values and key in settings:
                raise AdapterError(
                    f"{model.local} has {key} in its own configuration, which beats what is tuned; archive it without"
                )

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """With further ports the model is registered by `configure`; without, by the file."""
        archive = Path(needed(model, "the model's archive"))
        lines = [
            f"inference_address=http://{placement.host}:{placement.port}",
            "install_py_dep_per_model=false",
            "disable_system_metrics=true",
            # Of 0.11.1 and later. Older ones pass over what they do not know in this file, and end at a flag.
            "disable_token_authorization=true",
            f"metrics_address=http://{placement.host}:{self.metrics_at(placement)}",
            "metrics_mode=prometheus",
        ]
        if len(placement.more) > 1:
            lines += [
                f"management_address=http://{placement.host}:{placement.more[0]}",
                "enable_model_api=true",
            ]
        else:
            management = f"management_address=http://127.0.0.1:{placement.port + 1}"
            lines += [management, *_registered(model, archive, values)]
        command = (
            "torchserve", "--start", "--foreground", "--ncs", "--model-store", str(archive.parent),
            "--ts-config", f"{placement.files}/config.properties", "--log-config", f"{placement.files}/log4j2.xml",
        )  # fmt: skip
        files = {"config.properties": "\n".join(lines) + "\n", "log4j2.xml": _LOGGING}
        return ServerCommand(command, thread_environment(values), files)

    def request(self, model: Model) -> ServerRequest:
        """What it takes is the handler's own matter."""
        return ServerRequest(f"/predictions/{model.quoted}")

    def configure(self, reach: ServerAddress, model: Model, values: Values) -> None:
        """Register the model with these values, in place of what is registered; waits for its workers."""
        management = reach.more[0] if reach.more else None
        if management is None:
            raise AdapterError("TorchServe's management API cannot be reached from here")
        archive = Path(needed(model, "the model's archive"))
        asked: dict[str, Any] = {"url": archive.name, "model_name": model.name, "synchronous": "true"}
        asked["initial_workers"] = whole(values, "workers") or 1
        if (batch := whole(values, "batch_size")) is not None:
            asked["batch_size"] = batch
        if (delay := values.get("batch_delay")) is not None:
            asked["max_batch_delay"] = max(1, round(float(delay)))
        with bounded_client(management, timeout_s=_REGISTERING_S) as client:
            try:
                client.delete(f"/models/{model.quoted}")  # 404 where there is none yet
                answer = client.post("/models", params=asked)
            except httpx.HTTPError as error:
                raise AdapterError(
                    f"TorchServe did not register {model.name}: {error or type(error).__name__}"
                ) from error
        if not answer.is_success:
            raise AdapterError(f"TorchServe refuses {model.name}: {_said(answer)}")

    def statistics(self, reach: ServerAddress, model: Model) -> Statistics | None:  # noqa: ARG002
        """It does not count its batches."""
        found = summed_samples(reach.more[1] if len(reach.more) > 1 else None)
        if "ts_inference_requests_total" not in found:
            return None
        queue = found.get("ts_queue_latency_microseconds", found.get("ts_queue_latency_microseconds_total"))
        return Statistics(
            inferences=found["ts_inference_requests_total"], queue_s=None if queue is None else queue / 1e6
        )


def _registered(model: Model, archive: Path, values: Values) -> list[str]:
    """How config.properties names the model: JSON in one line."""
    workers, batch, delay = whole(values, "workers"), whole(values, "batch_size"), values.get("batch_delay")
    version = _version(model.local) if model.local is not None and model.local.is_file() else "1.0"
    one: dict[str, Any] = {"defaultVersion": True, "marName": archive.name}
    one |= {} if workers is None else {"minWorkers": workers, "maxWorkers": workers}
    one |= {} if batch is None else {"batchSize": batch}
    one |= {} if delay is None else {"maxBatchDelay": max(1, round(float(delay)))}
    return [f"load_models={model.name}={archive.name}", f"models={json.dumps({model.name: {version: one}})}"]


def _settings(archive: Path) -> dict[str, Any]:
    """The archive's own configuration (its `configFile`). Raises AdapterError for what is no archive."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        with zipfile.ZipFile(archive) as opened:
            name = json.loads(opened.read("MAR-INF/MANIFEST.json")).get("model", {}).get("configFile")
            yaml = YAML(typ="safe", pure=True)
            yaml.max_depth = _MAX_DEPTH
            content = yaml.load(opened.read(name)) if name else {}
    except (OSError, KeyError, ValueError, YAMLError, zipfile.BadZipFile) as error:
        raise AdapterError(f"{archive} is no model archive: {error}", ("service", "model", "path")) from error
    return content if isinstance(content, dict) else {}


def _version(archive: Path) -> str:
    with zipfile.ZipFile(archive) as opened:
        return str(json.loads(opened.read("MAR-INF/MANIFEST.json")).get("model", {}).get("modelVersion", "1.0"))


def _said(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("message", answer.text))[:300]
    except (ValueError, AttributeError):
        return answer.text[:300]
