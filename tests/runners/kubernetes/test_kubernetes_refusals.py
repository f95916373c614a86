"""What a cluster refuses, or has not: whether it concerns this configuration, all of them, or only this moment."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from runners.kubernetes import ClusterGpus, KubernetesOptions
from runners.kubernetes.cluster import Cluster
from runners.kubernetes.launched import as_failure, create_objects
from runners.kubernetes.objects import LAUNCH, chooses_image
from runners.kubernetes.observed import NoImage, Seen, does_not_fit, refused, running_pod, too_late
from runners.kubernetes.options import PRESETS
from runners.protocol import (
    Container,
    Infeasible,
    Placement,
    Readiness,
    Resources,
    RunnerUnavailable,
    ServerFailed,
)
from tests.servers.pod_api import JsonHandler, cluster_of

USED_UP = 'pods "a-b" is forbidden: exceeded quota: q, requested: cpu=2, used: cpu=3, limited: cpu=4'
TOO_SMALL = (
    'pods "a-b" is forbidden: exceeded quota: q, requested: cpu=2,pods=1, used: cpu=0,pods=0, limited: cpu=1,pods=9'
)
ABOVE = 'pods "a-b" is forbidden: maximum cpu usage per Container is 1, but limit is 2'
UNSAID = 'pods "a-b" is forbidden: failed quota: q: must specify limits.cpu for: server'
NO_RIGHT = 'deployments.apps is forbidden: User "ml" cannot create resource "deployments" in the namespace "ns"'
POLICY = 'admission webhook "validation.gatekeeper.sh" denied the request: [limits] memory is above 8Gi'


def a_container(**changes: Any) -> Container:
    made = Container(
        "study", 1, Path(), Path(), {}, Resources(), Placement("0.0.0.0", 8000, "/f"), Readiness(None, 1.0, None),
        command=("serve",),
    )  # fmt: skip
    return replace(made, **changes)


def waits(reason: str, message: str, image: str = "registry.example/llm:1") -> Seen:
    """What is seen of a pod whose server waits for that reason."""
    state = client.V1ContainerState(waiting=client.V1ContainerStateWaiting(reason=reason, message=message))
    status = client.V1ContainerStatus(
        name="server", image=image, image_id="", ready=False, restart_count=0, state=state
    )
    return Seen({"p": client.V1Pod(status=client.V1PodStatus(container_statuses=[status]))}, {})


@pytest.mark.parametrize(
    "message",
    [
        'rpc error: code = NotFound desc = failed to resolve reference "registry.example/llm:1": not found',
        "pull access denied, repository does not exist or may require authorization: insufficient_scope",
        "reading manifest 1 in registry.example/llm: manifest unknown",
        "unexpected status from HEAD request to https://registry.example/v2/llm/manifests/1: 401 Unauthorized",
    ],
)
def test_an_image_that_no_registry_gives_ends_the_wait_at_once(message: str) -> None:
    for reason in ("ErrImagePull", "ImagePullBackOff"):
        with pytest.raises(NoImage, match=f"{reason}: the cluster has no image registry.example/llm:1"):
            running_pod(waits(reason, message), "server")
    assert issubclass(NoImage, RunnerUnavailable)


@pytest.mark.parametrize(
    ("reason", "message", "image"),
    [
        ("ErrImagePull", 'failed to do request: Head "https://r/v2": dial tcp 10.0.0.1:443: i/o timeout', "r/llm:1"),
        ("ErrImagePull", "lookup r on 10.96.0.10:53: server misbehaving", "r/llm:1"),
        ("ErrImagePull", "unexpected status from HEAD request to r/unauthorized:1: 503", "r/unauthorized:1"),
        ("ErrImagePull", "toomanyrequests: You have reached your pull rate limit", "r/llm:1"),
        ("ImagePullBackOff", 'Back-off pulling image "r/llm:1"', "r/llm:1"),
    ],
)
def test_a_registry_that_is_away_for_a_moment_is_waited_for(reason: str, message: str, image: str) -> None:
    seen = waits(reason, message, image)
    assert running_pod(seen, "server") is None
    late = too_late(seen, "server", 120.0, own_image=False)
    assert isinstance(late, RunnerUnavailable), "every trial would wait as long"
    assert f"did not start within 120 s: {reason}: " in str(late)
    assert isinstance(too_late(seen, "server", 120.0, own_image=True), ServerFailed)


def test_what_waits_for_something_else_fails_its_trial() -> None:
    assert isinstance(too_late(waits("ContainerCreating", ""), "server", 9.0, own_image=False), ServerFailed)


def test_an_image_is_a_configurations_own_where_the_patch_names_it() -> None:
    server = {"name": "s", "image": "llm:1"}
    workload = {"kind": "Deployment", "spec": {"template": {"spec": {"containers": [server]}}}}

    def laid(**patch: Any) -> dict[str, Any]:
        return {"spec": {"template": {"spec": {"containers": [{"name": "s", **patch}]}}}}

    def own(service_image: str | None, written: str = "llm:1", **patch: Any) -> bool:
        options = KubernetesOptions(image=service_image, patch=laid(image=written))
        return chooses_image(workload, a_container(patch=laid(**patch)), options)

    assert own(None, "llm:{version}", image="llm:2")
    assert not own(None, "llm:2", image="llm:2"), "no value is in it: all configurations have it"
    assert not own(None, image="llm:1")
    assert not own(None, stdin=True)
    assert not own("llm:3", image="llm:2"), "service.image takes its place"
    assert not chooses_image(workload, a_container(), KubernetesOptions())
    model = {"runtimeVersion": "25.1"}
    service = {"kind": "InferenceService", "spec": {"predictor": {"model": {"runtimeVersion": "24.1"}}}}
    assert chooses_image(service, a_container(patch={"spec": {"predictor": {"model": model}}}), KubernetesOptions())


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (403, NO_RIGHT, RunnerUnavailable),
        (404, 'namespaces "ns" not found', RunnerUnavailable),
        (403, USED_UP, ServerFailed),
        (403, POLICY, ServerFailed),
        (422, "Deployment is invalid: spec.template.spec.containers[0].image: Required value", ServerFailed),
        (403, TOO_SMALL, Infeasible),
        (403, ABOVE, Infeasible),
    ],
)
def test_a_refusal_ends_the_study_only_where_it_is_of_all_that_we_ask_for(
    status: int, said: str, kind: type[Exception]
) -> None:
    failure = as_failure(status, said)
    assert type(failure) is kind
    assert str(failure) == f"the cluster refuses the launch: {said}"


def test_what_a_namespace_never_allows_is_not_waited_for() -> None:
    assert [does_not_fit(one) for one in (USED_UP, TOO_SMALL, ABOVE, UNSAID)] == [False, True, True, False]
    assert [refused(Seen({}, {"FailedCreate": one})) for one in (USED_UP, TOO_SMALL, UNSAID)] == [
        None, TOO_SMALL, UNSAID
    ]  # fmt: skip
    cut = "x" * 300 + TOO_SMALL.replace("cpu=1,pods=9", "pods=9,cpu=1")
    assert not does_not_fit(cut), "1 of 1500m, say"


class Refusing(ThreadingHTTPServer):
    """An API that creates objects. It answers the first try of the first paths with what `first` says."""

    daemon_threads = True

    def __init__(self, first: dict[str, tuple[int, str, str]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.first, self.made = dict(first), list[str]()


class _Handler(JsonHandler):
    server: Refusing

    def do_GET(self) -> None:  # noqa: N802 (as http.server calls it)
        self.say(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []})

    def do_POST(self) -> None:  # noqa: N802
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        plural = self.path.partition("?")[0].rpartition("/")[2]
        status, reason, message = self.server.first.pop(plural, (201, "", ""))
        if status == 201:
            self.server.made.append(plural)
            self.say(201, body)
        else:
            self.say(status, {"kind": "Status", "status": "Failure", "reason": reason, "message": message})


@contextlib.contextmanager
def refusing(folder: Path, first: dict[str, tuple[int, str, str]]) -> Iterator[tuple[Cluster, Refusing]]:
    with Refusing(first) as server, cluster_of(folder, server) as found:
        yield found, server


OWNER = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "name": "lease", "uid": "u-1"}
SERVICE = {"kind": "InferenceService", "spec": {"predictor": {"model": {"name": "m"}}}}
THERE = (409, "AlreadyExists", "it already exists")


def test_a_custom_object_that_an_earlier_try_made_is_there(tmp_path: Path) -> None:
    """Its answer was lost, and the call was repeated."""
    options = KubernetesOptions(gpus=ClusterGpus(slices=PRESETS["dra"]))
    asked = a_container(resources=Resources(gpus=1))
    first = {"resourceclaimtemplates": THERE, "inferenceservices": THERE}
    with refusing(tmp_path, first) as (cluster, server):
        create_objects(cluster, SERVICE, options, 8000, "tune-1", asked, {LAUNCH: "x"}, OWNER)
    assert server.made == ["services"]


def test_objects_for_which_a_quota_has_no_room_are_asked_for_again(tmp_path: Path) -> None:
    quota = "exceeded quota: q, requested: count/services=1, used: count/services=4, limited: count/services=4"
    with refusing(tmp_path, {"services": (403, "Forbidden", quota)}) as (cluster, server):
        create_objects(cluster, SERVICE, KubernetesOptions(), 8000, "tune-1", a_container(), {LAUNCH: "x"}, OWNER)
        assert server.made[-1] == "services"
        server.first["services"] = (403, "Forbidden", quota)
        with pytest.raises(ServerFailed, match="exceeded quota"):
            create_objects(
                cluster, SERVICE, KubernetesOptions(room_timeout_s=0.0), 8000, "tune-2", a_container(),
                {LAUNCH: "y"}, OWNER,
            )  # fmt: skip
