"""A running pod gets other cores and memory where the API offers it; elsewhere a trial has a pod of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runners import ReusingRunner
from runners.kubernetes.cluster import Cluster
from runners.kubernetes.nodes import Nodes
from runners.kubernetes.options import KubernetesOptions
from runners.kubernetes.resize import offers_resize, resize
from runners.protocol import Container, Endpoint, Placement, Readiness, Resources, ServerFailed
from tests.servers.pod_api import PodApi, cluster_of
from tuner.launch.render import live_parameters
from tuner.spec.reading import load_spec

SPEC = """\
version: 1
service: {name: r, image: "i:1", command: [serve, --port, "{port}", --batch, "{batch}"]}
request: {path: /, json: {x: 1}}
slo: {p99: 100ms}
space: {parameters: {cpu_cores: [1, 2], memory: [1Gi, 2Gi], batch: [1, 2]}}
prices: {cpu_core_hour: 0.04}
runner: {type: kubernetes, kubernetes: {resize: true}}
"""


@contextlib.contextmanager
def api(folder: Path, mode: str) -> Iterator[tuple[Cluster, PodApi]]:
    with PodApi(mode) as server, cluster_of(folder, server) as found:
        yield found, server


def test_a_cluster_knows_which_context_it_was_reached_by(tmp_path: Path) -> None:
    with api(tmp_path, "done") as (cluster, _):
        assert cluster.context == "c", "`tune clean` looks there, whatever the current one is by then"


def test_what_no_node_has_is_infeasible_unless_the_cluster_adds_nodes(tmp_path: Path) -> None:
    with api(tmp_path, "done") as (cluster, _):
        for asked in (Resources(cpu_cores=8), Resources(gpu_type="A100")):
            assert Nodes(cluster, KubernetesOptions(image="i:1")).refuses(asked) is not None
            growing = Nodes(cluster, KubernetesOptions(image="i:1", see_nodes=False))
            assert growing.refuses(asked) is None
            assert not growing.only_one, "who else comes is not known"


@pytest.mark.parametrize("mode", ["done", "late"])
def test_a_pod_is_resized_by_its_subresource_and_has_it_when_that_returns(tmp_path: Path, mode: str) -> None:
    with api(tmp_path, mode) as (cluster, server):
        assert offers_resize(cluster)
        resize(cluster, "p", "server", {"cpu": "500m", "memory": "2147483648"})
        assert server.has == {"cpu": "500m", "memory": "2147483648"}
        [patch] = server.seen
        assert patch["path"].startswith("/api/v1/namespaces/ns/pods/p/resize")
        assert patch["type"] == "application/json-patch+json"
        names = [f"{kind}/{name}" for kind in ("limits", "requests") for name in ("cpu", "memory")]
        assert sorted(one["path"] for one in patch["body"]) == [f"/spec/containers/1/resources/{one}" for one in names]


@pytest.mark.parametrize(
    ("mode", "said", "patches"),
    [
        ("absent", "does not resize pods", 0),
        ("infeasible", "the node cannot resize the pod: Node didn't have enough", 1),
        ("forbidden", "refuses to resize the pod: Pod is invalid: memory limits cannot be decreased", 1),
    ],
)
def test_what_cannot_be_resized_is_said_and_an_api_without_it_is_not_asked(
    tmp_path: Path, mode: str, said: str, patches: int
) -> None:
    with api(tmp_path, mode) as (cluster, server):
        with pytest.raises(ServerFailed, match=said):
            resize(cluster, "p", "server", {"cpu": "64"})
        assert len(server.seen) == patches


@dataclass
class _Pods:
    """A runner whose servers are that pod; how many were launched."""

    cluster: Cluster
    launched: int = 0

    def place(self, folder: Path) -> Placement:
        raise NotImplementedError

    @contextlib.contextmanager
    def launch(self, container: Container) -> Iterator[Endpoint]:
        self.launched += 1
        yield _Pod(self.cluster)  # type: ignore[misc]


@dataclass
class _Pod:
    cluster: Cluster
    url: str = ""
    cold_start_s: float = 1.0
    notes: tuple[str, ...] = ()
    reused_from: int | None = None

    def check(self) -> None:
        """It runs."""

    def resize(self, resources: Resources) -> None:
        self.url = self.cluster.api.configuration.host
        resize(self.cluster, "p", "server", {"cpu": f"{1000 * (resources.cpu_cores or 0):g}m"})


@pytest.mark.parametrize(("mode", "launched"), [("done", 1), ("absent", 3)])
def test_trials_share_a_pod_where_it_can_be_resized_and_else_each_has_its_own(
    tmp_path: Path, mode: str, launched: int
) -> None:
    with api(tmp_path, mode) as (cluster, _):
        pods = _Pods(cluster)
        runner = ReusingRunner(pods)  # type: ignore[arg-type]
        notes = []
        for trial, cores in enumerate((1.0, 2.0, 0.5)):
            given = Resources(cpu_cores=cores)
            container = Container(
                "s", trial, tmp_path, tmp_path, {"cpu_cores": cores}, given, Placement("", 0, ""),
                Readiness("/healthz", 5, None), live=frozenset({"cpu_cores"}),
            )  # fmt: skip
            with runner.launch(container) as endpoint:
                notes.append(" ".join(endpoint.notes))
        runner.stop_idle()
    assert pods.launched == launched
    assert notes[0] == ""
    shared = "It ran in the server that trial 0 launched, told cpu_cores while it ran."
    anew = "It was launched anew, since a running server could not be told: the cluster's API does not resize pods"
    if launched == 1:
        assert notes[1:] == [shared, shared]
    else:
        assert notes[1].startswith(anew)


@pytest.mark.parametrize(
    ("before", "after", "live"),
    [
        ("", "", {"cpu_cores", "memory"}),
        ("resize: true", "resize: false", set()),
        ("{batch}", "{cpu_cores}", {"memory"}),
        ("kubernetes: {resize: true}", "docker: {}", set()),
    ],
)
def test_only_resources_that_nothing_else_names_are_changed_and_only_where_the_spec_says_so(
    tmp_path: Path, before: str, after: str, live: set[str]
) -> None:
    text = SPEC.replace(before, after, 1) if before else SPEC
    if "docker" in text:
        text = text.replace("type: kubernetes", "type: docker")
    if "{batch}" not in text:
        text = text.replace(", batch: [1, 2]", "")
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    assert live_parameters(load_spec(tmp_path / "spec.yaml")) == live
