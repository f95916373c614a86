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
_AGAIN_S = 10.0  # after something that may pass
_MAY_PASS = (ApiException, RunnerUnavailable, urllib3.exceptions.HTTPError)

_log = logging.getLogger("tune")


def serve(template: Mapping[str, Any], namespace: str | None, health_port: int | None) -> None:
    """Run until SIGTERM or SIGINT. The namespace is the kubeconfig's, or the pod's own, where none is given. Raises
    RunnerUnavailable where no cluster answers.
    """
    cluster = Cluster(None, namespace)
    kopf.configure(log_format=kopf.LogFormat.PLAIN)
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
        # What kopf remembers goes to annotations: the status is ours, and has a schema.
        settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
        settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
        looking.append(asyncio.create_task(_look_on(runs)))

    @kopf.on.login(registry=registry)
    async def log_in(**about: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_via_client(**about)  # as the cluster's other calls

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        for task in looking:
            task.cancel()

    @kopf.on.resume(GROUP, VERSION, PLURAL, registry=registry)
    @kopf.on.create(GROUP, VERSION, PLURAL, registry=registry)
    async def begin(body: kopf.Body, **_: Any) -> None:
        try:
            await asyncio.to_thread(runs.begin, dict(body))
        except _MAY_PASS as error:
            raise kopf.TemporaryError(str(error), delay=_AGAIN_S) from error

    return registry


async def _look_on(runs: TuningRuns) -> None:
    while True:
        with contextlib.suppress(*_MAY_PASS):
            await asyncio.to_thread(runs.look)
        await asyncio.sleep(_LOOK_S)
