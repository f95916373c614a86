"""Begins TuningRuns and looks after those that are under way. Both may be done again at any time: a controller that was
restarted goes on from what the cluster has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from kubernetes.client.exceptions import ApiException

from runners.kubernetes.cluster import Cluster, words
from runners.kubernetes.controller.objects import GROUP, PLURAL, VERSION, job, run_files, run_name
from runners.kubernetes.controller.status import CHANGED, FINISHED, PodState, status_after

_LOG_LINES = 20_000
_REFUSED = (400, 403, 413, 422)  # what asking again does not mend


class TuningRuns:
    """The TuningRuns of the cluster's namespace. `template` is the `spec` of the Job that tunes."""

    def __init__(self, cluster: Cluster, template: Mapping[str, Any]) -> None:
        self._cluster, self._template = cluster, template

    def begin(self, run: Mapping[str, Any]) -> None:
        """Make what the run needs, unless it is there. What the cluster refuses is in the run's status. Raises
        ApiException and RunnerUnavailable for what may pass.
        """
        status = run.get("status") or {}
        if status.get("phase") in FINISHED or "job" in status:
            return
        try:
            self._cluster.create(self._cluster.core.create_namespaced_config_map, run_files(run))
            self._cluster.create(self._cluster.batch.create_namespaced_job, job(run, self._template))
        except ApiException as error:
            if error.status not in _REFUSED:
                raise
            self._say(run, {"phase": "Failed", "message": f"the cluster refuses it: {words(error)}"})
        except ValueError as error:
            self._say(run, {"phase": "Failed", "message": str(error)})
        else:
            generation = run["metadata"].get("generation")
            begun = {"phase": "Pending", "message": "its Job is made", "job": run_name(run)}
            self._say(run, begun | ({} if generation is None else {"observedGeneration": generation}))

    def look(self) -> None:
        """Bring the status of every run that is not over up to date; one that nobody has begun, as where the kind came
        after the controller, is begun. Raises as `begin`.
        """
        custom = self._cluster.custom
        found = self._cluster.ask(custom.list_namespaced_custom_object, GROUP, VERSION, self._cluster.namespace, PLURAL)
        for run in found["items"]:
            status = run.get("status") or {}
            if status.get("phase") in FINISHED or "deletionTimestamp" in run["metadata"]:
                continue
            if "job" not in status:
                self.begin(run)
                continue
            now = self._status(status)
            if status.get("observedGeneration", run["metadata"].get("generation")) != run["metadata"].get("generation"):
                now["message"] = now["message"].removesuffix(CHANGED) + CHANGED
            if now != status:
                self._say(run, now)

    def _status(self, before: Mapping[str, Any]) -> dict[str, Any]:
        try:
            made = self._cluster.ask(self._cluster.batch.read_namespaced_job, before["job"], self._cluster.namespace)
        except ApiException as error:
            if error.status != 404:
                raise
            return {**before, "phase": "Failed", "message": "its Job is gone"}
        conditions = [one for one in made.status.conditions or () if one.status == "True"]
        ended = next((one for one in conditions if one.type in ("Complete", "Failed")), None)
        if ended is None:
            return status_after(before, None, self._pod(before["job"]))
        said = "Complete" if ended.type == "Complete" else f"{ended.reason}: {ended.message}"
        return status_after(before, said, self._pod(before["job"]))

    def _pod(self, name: str) -> PodState | None:
        core = self._cluster.core
        pods = self._cluster.ask(core.list_namespaced_pod, self._cluster.namespace, label_selector=f"job-name={name}")
        pod = max(pods.items, key=lambda one: one.metadata.creation_timestamp, default=None)
        if pod is None:
            return None
        state = next(iter(pod.status.container_statuses or ()), None)
        evicted = ": ".join(one for one in (pod.status.reason, pod.status.message) if one)
        if state is None and evicted:
            return PodState(killed=evicted)
        if state is None:
            conditions = [one for one in pod.status.conditions or () if one.status == "False" and one.message]
            return PodState(waiting=conditions[0].message if conditions else "its pod is not placed yet")
        if state.state.waiting is not None:
            said = (state.state.waiting.reason, state.state.waiting.message)
            return PodState(waiting=": ".join(one for one in said if one))
        ended = state.state.terminated
        if ended is None:
            return PodState(self._log(pod.metadata.name))
        killed = evicted or (ended.reason if ended.reason == "OOMKilled" else "")
        return PodState(self._log(pod.metadata.name), exit_code=ended.exit_code, killed=killed)

    def _log(self, pod: str) -> str:
        """Its end, unread by the client, which makes Python of what looks like JSON."""
        with contextlib.suppress(ApiException):
            answer = self._cluster.ask(
                self._cluster.core.read_namespaced_pod_log, pod, self._cluster.namespace, tail_lines=_LOG_LINES,
                _preload_content=False,
            )  # fmt: skip
            with contextlib.closing(answer):
                return bytes(answer.data).decode(errors="replace")
        return ""

    def _say(self, run: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        gone: dict[str, Any] = dict.fromkeys((run.get("status") or {}).keys() - status.keys())  # null removes
        with contextlib.suppress(ApiException):  # it was deleted meanwhile
            self._cluster.ask(
                self._cluster.custom.patch_namespaced_custom_object_status, GROUP, VERSION, self._cluster.namespace,
                PLURAL, run["metadata"]["name"], {"status": {**gone, **status}},
            )  # fmt: skip
