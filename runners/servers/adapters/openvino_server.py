"""OpenVINO Model Server. Written from its documentation."""

from __future__ import annotations

import json
from typing import ClassVar

from runners.protocol import Placement
from runners.servers import v2
from runners.servers.exposition import summed_samples
from runners.servers.protocol import (
    Knob,
    Model,
    ServerAddress,
    ServerCommand,
    Statistics,
    Values,
    as_text,
    flags,
    needed,
)

_FLAGS = {"requests": "--nireq", "rest_workers": "--rest_workers", "device": "--target_device"}
_PLUGIN = {
    "threads": "INFERENCE_NUM_THREADS",
    "streams": "NUM_STREAMS",
    "performance_hint": "PERFORMANCE_HINT",
    "precision": "INFERENCE_PRECISION_HINT",
}


class OpenVinoServer(v2.V2Server):
    """`service.model.path` is the model's base path: a folder with a folder per version.

    `device` (an option) is CPU or GPU. It makes no batches of its own: `requests` are as many as it works on at once.
    """

    name, title = "ovms", "OpenVINO Model Server"
    documentation = "https://docs.openvino.ai/2026/model-server/ovms_docs_parameters.html"
    image = "openvino/model_server:2026.4"
    grpc_port = 0
    knobs = (
        Knob("requests", (1, 2, 4, 8), ("concurrency",)),
        Knob("streams", (1, 2, 4), ("instances", "workers")),
        Knob("threads", (1, 2, 4), ("threads",)),
        Knob("performance_hint", ("LATENCY", "THROUGHPUT")),
        Knob("precision", ("f32", "bf16"), ("precision",)),
        Knob("rest_workers", (2, 4, 8)),
    )
    _metrics: ClassVar[tuple[str, ...]] = ("ovms_requests_success", "ovms_wait_for_infer_req_time_us")

    def check(self, model: Model, values: Values) -> None:  # noqa: ARG002
        """There is a path."""
        needed(model, "the model's base path, with a folder per version")

    def launch(self, model: Model, values: Values, placement: Placement) -> ServerCommand:
        """`ovms`, with one model and those of its metrics that are read."""
        plugin = {name: as_text(values[knob]) for knob, name in _PLUGIN.items() if knob in values}
        device = {"device": model.options["device"]} if "device" in model.options else {}
        command = (
            "ovms", "--model_name", model.name, "--model_path", needed(model, "the model's base path"),
            "--rest_bind_address", placement.host, "--rest_port", str(placement.port),
            "--grpc_bind_address", placement.host, "--port", str(self.grpc_at(placement)),
            "--metrics_enable", "--metrics_list", ",".join(self._metrics), *flags({**values, **device}, _FLAGS),
            *(("--plugin_config", json.dumps(plugin)) if plugin else ()),
        )  # fmt: skip
        return ServerCommand(command)

    def statistics(self, reach: ServerAddress, model: Model) -> Statistics | None:  # noqa: ARG002
        """The time that requests waited for one of its inference requests, in microseconds there."""
        found = summed_samples(reach.url)
        done = found.get("ovms_requests_success")
        waited = found.get("ovms_wait_for_infer_req_time_us_sum")
        return None if done is None else Statistics(done, None, None if waited is None else waited / 1e6)
