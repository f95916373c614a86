"""The cluster's API through calls that survive its absence, and the few that several modules need."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from runners.protocol import RunnerUnavailable
from runners.retry import retry

ANSWER_S = (5.0, 20.0)  # to connect, to read
MOST_WORDS = 300  # letters of what it says
_GIVE_UP_S = 120.0
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
Right = tuple[str, str, str]  # verb, API group, plural
_MAY_PASS = (429, 500, 502, 503, 504)

P = ParamSpec("P")
R = TypeVar("R")


class Cluster:
    """The API as the kubeconfig's `context` reaches it (None: its current one), or as a pod's own service account does.
    The namespace is theirs, where none is given. The attribute `context` is the one that was taken; None in a pod.

    Raises RunnerUnavailable where there is no configuration, or nothing answers.
    """

    def __init__(self, context: str | None, namespace: str | None, kubeconfig: str | None = None) -> None:
        configuration, theirs, self.context = _configuration(context, kubeconfig or os.environ.get("KUBECONFIG"))
        self.namespace = namespace = namespace or theirs
        self.api = client.ApiClient(configuration)
        self.core, self.apps, self.batch = (
            client.CoreV1Api(self.api),
            client.AppsV1Api(self.api),
            client.BatchV1Api(self.api),
        )
        self.leases, self.custom = client.CoordinationV1Api(self.api), client.CustomObjectsApi(self.api)
        self.rights = client.AuthorizationV1Api(self.api)
        self._known: dict[Right, bool] = {}
        try:
            self.core.list_namespaced_pod(namespace, limit=1, _request_timeout=ANSWER_S)
        except ApiException as error:
            raise RunnerUnavailable(
                f"the cluster refuses to list pods of the namespace {namespace}: {words(error)}"
            ) from error
        except urllib3.exceptions.HTTPError as error:
            raise RunnerUnavailable(
                f"no Kubernetes API answers at {self.api.configuration.host} ({type(error).__name__}); see KUBECONFIG"
            ) from error

    def ask(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The call's answer, asked again with back-off while the API is away. Raises ApiException for what it refuses,
        RunnerUnavailable when it stays away.
        """
        kwargs.setdefault("_request_timeout", ANSWER_S)
        try:
            return retry(_is_away, _GIVE_UP_S, call, *args, **kwargs)
        except (urllib3.exceptions.HTTPError, ApiException) as error:
            if _is_away(error):
                raise RunnerUnavailable(f"the Kubernetes API has not answered for {_GIVE_UP_S:g} s") from error
            raise

    def create(self, call: Callable[..., Any], body: Mapping[str, Any]) -> None:
        """Create an object whose name nobody else uses: one that is there already is an earlier try of this call."""
        self._made(call, self.namespace, dict(body))

    def create_custom(self, kind: tuple[str, str, str], body: Mapping[str, Any]) -> None:
        """The same for an object of a custom kind: its group, version and plural."""
        group, version, plural = kind
        self._made(self.custom.create_namespaced_custom_object, group, version, self.namespace, plural, dict(body))

    def _made(self, call: Callable[..., Any], *arguments: Any) -> None:
        try:
            self.ask(call, *arguments)
        except ApiException as error:
            if error.status != 409 or "AlreadyExists" not in str(error.body):
                raise

    def delete(self, call: Callable[..., Any], name: str, **more: Any) -> None:
        """Delete an object, if it is there. The answer is not read: servers answer with the object or with a status.
        Raises RunnerUnavailable where this account may not, since all trials would leave something.
        """
        try:
            self.ask(call, name, self.namespace, _preload_content=False, **more).close()
        except ApiException as error:
            if error.status in (401, 403):
                raise RunnerUnavailable(f"the cluster refuses to delete {name}: {words(error)}") from error
            if error.status != 404:
                raise

    def denied(self, rights: Iterable[Right]) -> list[str]:
        """Which of these this account lacks, as in "delete deployments.apps"; none where it may not ask."""
        return [
            f"{verb} {plural}{group and '.'}{group}"
            for verb, group, plural in rights
            if not self._may(verb, group, plural)
        ]

    def _may(self, verb: str, group: str, plural: str) -> bool:
        asked = (verb, group, plural)
        if asked not in self._known:
            attributes = {"namespace": self.namespace, "verb": verb, "group": group, "resource": plural}
            body = {"spec": {"resourceAttributes": attributes}}
            try:
                status = self.ask(self.rights.create_self_subject_access_review, body).status
                self._known[asked] = status is None or bool(status.allowed)
            except ApiException:
                self._known[asked] = True
        return self._known[asked]


def to_make(*kinds: tuple[str, str]) -> list[Right]:
    """The rights to make objects of these kinds (API group and plural), and to remove them."""
    return [(verb, *kind) for kind in kinds for verb in ("create", "delete")]


def words(error: ApiException) -> str:
    """The API server's own message, on one line."""
    with contextlib.suppress(TypeError, ValueError):
        return " ".join(str(json.loads(error.body)["message"]).split())[:MOST_WORDS]
    return f"{error.status} {error.reason}"


def _configuration(context: str | None, kubeconfig: str | None) -> tuple[client.Configuration, str, str | None]:
    """How to reach the API, and the namespace and the context that go with it."""
    made, name = client.Configuration(), context
    try:
        if context is None and "KUBERNETES_SERVICE_HOST" in os.environ and kubeconfig is None:
            config.load_incluster_config(made)
            namespace = _OWN_NAMESPACE.read_text(encoding="utf-8").strip()
        else:
            config.load_kube_config(kubeconfig, context=context, client_configuration=made)
            contexts, active = config.list_kube_config_contexts(kubeconfig)
            chosen = next((one for one in contexts if one["name"] == context), active)
            namespace, name = chosen["context"].get("namespace") or "default", chosen["name"]
    except (config.ConfigException, OSError) as error:
        raise RunnerUnavailable(
            f"no cluster is configured: {error}\nSet KUBECONFIG, or runner.kubernetes.context to one that it has."
        ) from error
    made.retries = False  # ours wait longer between tries
    return made, namespace, name


def _is_away(error: BaseException) -> bool:
    if isinstance(error, ApiException):
        return error.status in _MAY_PASS
    return isinstance(error, urllib3.exceptions.HTTPError)
