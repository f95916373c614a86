"""The controller as a kopf operator: it hears of TuningRuns, and looks every few seconds after those under way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any, cast

import kopf
import urllib3
from kubernetes.client.exceptions import ApiException

from runners.kubernetes.cluster import Cluster
from runners.kubernetes.controller.objects import GROUP, PLURAL, VERSION
from runners.kubernetes.controller.runs import TuningRuns
from runners.protocol import RunnerUnavailable

_LOOK_S = 5.0
_MAY_PASS = (ApiException, RunnerUnavailable, urllib3.exceptions.HTTPError)

_log = logging.getLogger("tune")


def serve(template: Mapping[str, Any], namespace: str | None, health_port: int | None) -> None:
    """Run until SIGTERM or SIGINT. The namespace is the kubeconfig's, or the pod's own, where none is given. Raises
    RunnerUnavailable where no cluster answers.
    """
    cluster = Cluster(None, namespace)
    kopf.configure(log_format=kopf.LogFormat.PLAIN)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # else a line for every change of a status
    endpoint = None if health_port is None else f"http://0.0.0.0:{health_port}/healthz"
    _log.info("making Jobs of the TuningRuns in the namespace %s", cluster.namespace)
    kopf.run(
        registry=_handlers(TuningRuns(cluster, template)), namespaces=[cluster.namespace], standalone=True,
        liveness_endpoint=endpoint, identity=cast("Any", "tune"),  # its own asks who the user is, who may have no name
    )  # fmt: skip


def _handlers(runs: TuningRuns) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    looking: list[asyncio.Task[None]] = []

    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.scanning.disabled = True  # it may not watch other namespaces, nor the kinds that there are
        settings.posting.enabled = False
        looking.append(asyncio.create_task(_look_on(runs)))

    @kopf.on.login(registry=registry)
    async def log_in(**about: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_via_client(**about)  # as the cluster's other calls

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        for task in looking:
            task.cancel()

    # An event alone: for its other handlers kopf keeps a copy of the spec in an annotation, which has not room for all.
    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def begin(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002 (kopf's name)
        if type != "DELETED" and "deletionTimestamp" not in body["metadata"]:
            with contextlib.suppress(*_MAY_PASS):  # the next look begins it
                await asyncio.to_thread(runs.begin, dict(body))

    return registry


async def _look_on(runs: TuningRuns) -> None:
    while True:
        with contextlib.suppress(*_MAY_PASS):
            await asyncio.to_thread(runs.look)
        await asyncio.sleep(_LOOK_S)
