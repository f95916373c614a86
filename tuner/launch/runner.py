"""From the spec's `runner:` to a runner: the only module that knows all runners."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners import ProcessRunner, ReplayRunner, Runner, RunnerUnavailable, TableError
from runners.attach import AttachRunner
from runners.command import CommandRunner, CommandTimes
from runners.remote import WrongUrl, address_of
from runners.replay import same_numbers
from search_spaces.reading import is_file, is_folder, read_text
from tuner.errors import SpecError, UnfitEnvironmentError, needing_packages
from tuner.launch.adapter import image_of, mounted_model
from tuner.launch.chain import check_runner
from tuner.launch.checks.images import check_images
from tuner.launch.checks.table import check_table
from tuner.launch.render import rendered_commands
from tuner.spec.reading import LoadedSpec
from tuner.spec.yaml_file import read_documents

if TYPE_CHECKING:
    from runners.kubernetes.options import KubernetesOptions


def table_digest(loaded: LoadedSpec) -> str | None:
    """What tells a replayed table from another one, and from itself edited; None where servers are launched. How its
    lines end does not matter: a checkout may change that.
    """
    table = loaded.spec.runner.table
    if table is None:
        return None
    text = "\n".join(read_text(loaded.folder / table).splitlines())
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def make_runner(loaded: LoadedSpec) -> Runner:
    """Raises SpecError for a replay table, a mount or a manifest that is missing or wrong, or a chain that it cannot
    launch, UnfitEnvironmentError where there is no engine and no cluster.
    """
    check_runner(loaded)
    runner = loaded.spec.runner
    try:
        if runner.type == "docker":
            return _docker(loaded)
        if runner.type == "kubernetes":
            return _kubernetes(loaded)
    except RunnerUnavailable as error:
        raise UnfitEnvironmentError(str(error)) from error
    if runner.type == "replay":
        assert runner.table is not None  # noqa: S101 (the model's validator)
        try:
            texts = [one.name for one in loaded.space.parameters if same_numbers(one.choices)]
            table = ReplayRunner(loaded.folder / runner.table, loaded.space.names, texts)
        except TableError as error:
            raise SpecError(f"runner.table: {error} ({loaded.file.place(('runner', 'table'))})") from error
        if "p99_ms" in loaded.spec.objective.metrics and not table.has_p99:
            raise loaded.error(("runner", "table"), f"{runner.table} has no p99_ms, which the objective asks for")
        check_table(loaded, table)
        return table
    if runner.type == "attach":
        return _attach(loaded)
    return _command(loaded) if runner.type == "command" else ProcessRunner(mps=runner.process.gpu_slices == "mps")


def _attach(loaded: LoadedSpec) -> Runner:
    url = loaded.spec.runner.url
    assert isinstance(url, str)  # noqa: S101 (the model's validator)
    try:
        return AttachRunner(address_of(url))
    except WrongUrl as error:
        raise loaded.error(("runner", "url"), str(error)) from error


def _command(loaded: LoadedSpec) -> Runner:
    spec = loaded.spec.runner
    return CommandRunner(partial(rendered_commands, loaded), CommandTimes(spec.up_timeout, spec.down_timeout))


def _docker(loaded: LoadedSpec) -> Runner:
    with needing_packages("the docker runner"):
        from runners.docker.runner import DockerOptions, DockerRunner

    check_images(loaded)
    spec, key = loaded.spec.runner.docker, ("runner", "docker")
    if loaded.colocated and spec.build is not None:
        raise loaded.error((*key, "build"), "builds one image; with several services, name each one's image")
    mounts: dict[str, Path] = {}
    images: list[str] = []
    for service in loaded.services:
        if (image := image_of(service.loaded)) is None:
            raise service.loaded.error(
                ("service", "image"), "is missing; Docker needs one, or runner.docker.build to build it from"
            )
        images.append(image)
        for target, source in mounted_model(service.loaded).items():
            if mounts.setdefault(target, source) != source:
                raise service.loaded.error(
                    ("service", "model", "path"), f"another service's model is called {source.name} too; rename one"
                )
    build = None if spec.build is None else loaded.folder / spec.build
    if build is not None and not is_file(build / "Dockerfile"):
        raise loaded.error((*key, "build"), f"there is no {build / 'Dockerfile'}")
    mounts |= {target: loaded.folder / source for target, source in spec.mounts.items()}
    for target, source in mounts.items():
        if not (is_file(source) or is_folder(source)):
            raise loaded.error((*key, "mounts", target), f"there is no {source}")
    options = DockerOptions(
        images[0], build, spec.shm_size, mounts, spec.gpus, secrets_in_environment=spec.secrets == "environment"
    )
    return DockerRunner(options)


def _kubernetes(loaded: LoadedSpec) -> Runner:
    with needing_packages("the kubernetes runner"):
        from runners.kubernetes import KubernetesRunner
        from runners.kubernetes.manifest import needs_command

    check_images(loaded)
    spec, key = loaded.spec.runner.kubernetes, ("runner", "kubernetes")
    documents: tuple[Any, ...] = ()
    if spec.manifest is not None:
        if loaded.colocated:
            raise loaded.error((*key, "manifest"), "is one service's; with several, name each one's image")
        documents = read_documents(loaded.folder / spec.manifest)
    for service in loaded.services:
        if spec.manifest is None and image_of(service.loaded) is None:
            raise service.loaded.error(
                ("service", "image"), "is missing; a pod needs one, or runner.kubernetes.manifest"
            )
    own = loaded.spec.service
    try:
        alone = bool(documents) and needs_command(documents, spec.workload, spec.container)
        if not alone or own.command or own.server != "custom":
            return KubernetesRunner(kubernetes_options(loaded, documents))
    except ValueError as error:
        raise loaded.error((*key, "manifest"), str(error)) from error
    raise loaded.error(
        ("service", "command"),
        "is missing; KubeRay writes the command of a RayService's pods, and here one pod runs without it: write for "
        "example [serve, run, app:app]",
    )


def kubernetes_options(loaded: LoadedSpec, documents: tuple[Any, ...] = ()) -> KubernetesOptions:
    """What the spec says of a cluster, as plain values; `documents` is the user's manifest."""
    from runners.kubernetes.options import PRESETS, ClusterGpus, KubernetesOptions, Slices

    spec = loaded.spec.runner.kubernetes
    slices = spec.gpu.slices
    return KubernetesOptions(
        # A manifest has an image of its own.
        image=loaded.spec.service.image if spec.manifest is not None else image_of(loaded.services[0].loaded),
        namespace=spec.namespace or os.environ.get("TUNE_NAMESPACE"),
        context=spec.context,
        manifest=documents,
        patch=spec.patch,
        container=spec.container,
        workload=spec.workload,
        port=spec.port,
        gpus=ClusterGpus(
            spec.gpu.type_label,
            {name: (given,) if isinstance(given, str) else tuple(given) for name, given in spec.gpu.types.items()},
            PRESETS[slices] if isinstance(slices, str) else Slices(slices.resources, slices.env),
            spec.gpu.resources,
        ),
        dcgm=spec.gpu.dcgm,
        shm_bytes=spec.shm_size,
        node_selector=spec.node_selector,
        tolerations=spec.tolerations,
        service_account=spec.service_account,
        best_effort_priority_class=spec.best_effort_priority_class,
        image_pull_policy=spec.image_pull_policy,
        image_pull_secrets=spec.image_pull_secrets,
        load_job=spec.load == "job",
        load_image=spec.load_image or _load_image(),
        load_cpu=spec.load_cpu,
        room_timeout_s=spec.room_timeout,
        see_nodes=spec.see_nodes,
    )


def _load_image() -> str:
    """The load test's image from the environment that the chart sets. A chart from before there was such an image names
    the tuner's own.
    """
    return os.environ.get("TUNE_LOAD_IMAGE") or os.environ.get("TUNE_IMAGE") or "tune-load:1"
