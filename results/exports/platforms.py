"""Serving platforms on Kubernetes and beside it: KServe, KubeDL, Seldon, Ray Serve, Docker Compose."""

from __future__ import annotations

import re
from collections.abc import Mapping

from results.exports.addresses import KUBEDL_PORT, SELDON_PREDICTOR
from results.exports.deployable import Deployable
from results.exports.documents import NO_IMAGE, Document, NotExportable, header, to_yaml
from results.exports.kubernetes import beside, metadata, pod
from results.exports.servers import uses

_KUBEDL = {"Triton": "triton", "TFServing": "tf-serving"}
_RAY_BUFFER = 2  # requests that a replica takes on, for each that it should have under way


def kserve(one: Deployable) -> dict[str, str]:
    """An InferenceService (serving.kserve.io/v1beta1) with a container of its own, scaled by requests/s: by Knative,
    which allows a port to be called `http1` and no other name, and sees itself to a pod that is not ready. It had no
    start-up probe for long, and without one a liveness probe would end a server that still loads.
    """
    whole = pod(one)
    [server] = whole["containers"]
    kept = {key: value for key, value in server.items() if key not in ("startupProbe", "livenessProbe")}
    ports = [{**server["ports"][0], "name": "http1"}]  # it refuses a pod with a second one
    predictor: Document = {
        "minReplicas": one.min_replicas,
        "maxReplicas": one.max_replicas,
        **({"scaleMetric": "rps", "scaleTarget": max(1, round(one.target_qps))} if one.scales else {}),
        **whole,
        "containers": [{**kept, "name": "kserve-container", "ports": ports}],
    }
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata(one),
        "spec": {"predictor": predictor},
    }
    head = f"{header(one)}\nrps is a metric of KServe's serverless mode (Knative)." if one.scales else header(one)
    placed = ("nodeSelector", "affinity", "tolerations")
    needed = [f"kubernetes.podspec-{key.lower()}" for key in placed if key in predictor]
    head += f"\nKnative's config-features has to enable {' and '.join(needed)}." if needed else ""
    return {f"{one.name}.yaml": to_yaml([*beside(one), document], head)}


def kubedl(one: Deployable) -> dict[str, str]:
    """An Inference (serving.kubedl.io/v1alpha1)."""
    predictor: Document = {
        "name": "tuned",
        "replicas": one.replicas,
        "template": {"spec": pod(one)},
    }
    if one.scales:
        predictor["autoScale"] = {
            "autoScaler": {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": one.name},
            "minReplicas": one.min_replicas,
            "maxReplicas": one.max_replicas,
        }
    batch = one.roles.get("batch_size")
    if isinstance(batch, int) and not isinstance(batch, bool):
        predictor["batching"] = {"batchSize": batch}
    framework = next((name for name, server in _KUBEDL.items() if uses(one, server)), None)
    if framework is None:
        raise NotExportable(
            f"kubedl runs TFServing and Triton; nothing in the image, command or files of {one.service} says either\n"
            "Export kubernetes or kserve instead, or name the server's image in the spec's service.image."
        )
    if one.listens.fixed and one.listens.port != KUBEDL_PORT:
        raise NotExportable(
            f"kubedl's Services lead to port {KUBEDL_PORT}, and {one.service} listens on {one.listens.port}: it is not "
            "told another\nWrite {port} into service.command, env or files where the server reads its port, or export "
            "kubernetes or kserve instead."
        )
    document = {
        "apiVersion": "serving.kubedl.io/v1alpha1",
        "kind": "Inference",
        "metadata": metadata(one),
        "spec": {"framework": framework, "predictors": [predictor]},
    }
    return {f"{one.name}.yaml": to_yaml([*beside(one), document], header(one))}


def seldon(one: Deployable) -> dict[str, str]:
    """A SeldonDeployment (machinelearning.seldon.io/v1) whose graph is the one container."""
    component: Document = {"spec": pod(one)}
    if one.target_cpu_percent is not None:
        metric = {"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": one.target_cpu_percent}}
        component["hpaSpec"] = {"minReplicas": one.min_replicas, "maxReplicas": one.max_replicas, "metrics": [metric]}
    predictor = {
        "name": SELDON_PREDICTOR,
        "replicas": one.replicas,
        "graph": {"name": one.name, "type": "MODEL", "endpoint": {"type": "REST", "service_port": one.listens.port}},
        "componentSpecs": [component],
    }
    document = {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": metadata(one),
        "spec": {"name": one.name, "predictors": [predictor]},
    }
    return {f"{one.name}.yaml": to_yaml([*beside(one), document], header(one))}


_IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def ray_serve(one: Deployable) -> dict[str, str]:
    """A config for `serve deploy`: replicas by the requests under way at the knee. The configuration reaches the
    application as it was measured, by its arguments and the environment: Ray refuses a `user_config` of a deployment
    that has no `reconfigure`.
    """
    own = {path: text for path, text in one.program.files.items() if path.endswith("serve.yaml")}
    if own:
        return own  # as it was measured
    actor: Document = {"num_cpus": one.needs.cpu_cores or 1.0}
    if one.gpu_count:
        actor["num_gpus"] = float(one.gpu_count)
    if one.needs.memory_bytes:
        actor["memory"] = one.needs.memory_bytes
    deployment: Document = {
        "name": one.name,
        "max_ongoing_requests": max(2, _RAY_BUFFER * one.concurrency),
        "autoscaling_config": {
            "min_replicas": one.min_replicas, "max_replicas": one.max_replicas,
            "target_ongoing_requests": one.concurrency,
        },
        "ray_actor_options": actor,
    }  # fmt: skip
    path, arguments = _application(one)
    application: Document = {
        "name": one.name,
        "route_prefix": "/",
        "import_path": path,
        **({"args": arguments} if arguments else {}),
        "deployments": [deployment],
    }
    if one.program.env:
        application["runtime_env"] = {"env_vars": dict(one.program.env)}
    document = {"http_options": {"host": "0.0.0.0", "port": one.listens.port}, "applications": [application]}  # noqa: S104
    head = f"{header(one)}\nThe deployment's name must be that of your @serve.deployment."
    return {"serve.yaml": to_yaml([document], head)}


def compose(one: Deployable) -> dict[str, str]:
    """A service for `docker compose up`, on 127.0.0.1, with its limits; rendered files lie beside it."""
    return compose_together({"": one})


def compose_together(services: Mapping[str, Deployable]) -> dict[str, str]:
    """One project, in whose network services reach each other by their names. Each is published on a port of its own,
    but for those that others of their chain alone call.
    """
    project: Document = {}
    files: dict[str, str] = {}
    taken: list[int] = []
    for folder, one in services.items():
        beside = f"{folder}/files" if folder else "files"
        service = project[one.name] = _compose_service(one, beside)
        if not one.called:
            taken.append(max(one.listens.port, *(port + 1 for port in taken), 1))
            service["ports"] = [f"127.0.0.1:{taken[-1]}:{one.listens.port}"]
        files |= {f"{beside}/{path}": text for path, text in one.program.files.items()}
    head = "\n".join(header(one, replicas=False) + _whole_gpus(one) for one in services.values())
    return {"compose.yaml": to_yaml([{"services": project}], head), **files}


def _whole_gpus(one: Deployable) -> str:
    """What Compose cannot ask for, as a remark."""
    said = f"; {one.needs.gpu_slice} of a GPU was measured, and Compose knows whole ones alone"
    return said if one.needs.gpu_slice is not None else ""


def _compose_service(one: Deployable, files: str) -> Document:
    """All but its ports. Its rendered files are in that folder."""
    limits: Document = {}
    if one.needs.cpu_cores:
        limits["cpus"] = f"{one.needs.cpu_cores:g}"
    if one.needs.memory_bytes:
        limits["memory"] = f"{one.needs.memory_bytes}b"
    deploy: Document = {"resources": {"limits": limits} if limits else {}}
    if one.gpu_count:
        device = {"driver": "nvidia", "count": one.gpu_count, "capabilities": ["gpu"]}
        deploy["resources"]["reservations"] = {"devices": [device]}
    service: Document = {
        "image": one.program.image or NO_IMAGE,
        **({"deploy": deploy} if deploy["resources"] else {}),
        "init": True,
        "restart": "unless-stopped",
    }
    if one.program.command:
        replaced = "command" if one.program.command[0].startswith("-") else "entrypoint"
        service[replaced] = [_escaped(word) for word in one.program.command]
    if one.program.env or one.program.secrets:
        missing = {name: f"${{{name}:?is not set}}" for name in one.program.secrets}
        service["environment"] = missing | {name: _escaped(value) for name, value in one.program.env.items()}
    volumes: list[str | Document] = [
        {"type": "bind", "source": _escaped(source), "target": _escaped(target), "read_only": True}
        for target, source in one.program.mounts.items()
    ]
    if one.program.files:
        volumes.append(f"./{files}:{one.program.files_folder}:ro")
    if volumes:
        service["volumes"] = volumes
    if one.needs.shm_bytes:
        service["shm_size"] = one.needs.shm_bytes
    return service


def _application(one: Deployable) -> tuple[str, dict[str, str]]:
    """The import path, and the arguments of the application's builder, as `serve run module:app key=value` names them;
    uvicorn's `main:app` is an ASGI application, which Ray cannot deploy.
    """
    is_ray = any(word.rpartition("/")[2] == "serve" or word.startswith("ray.serve") for word in one.program.command)
    found = [word for word in one.program.command if is_ray and _IMPORT_PATH.fullmatch(word)]
    if not found:
        raise NotExportable(
            f"ray-serve needs an import path, and the command of {one.service} names none\n"
            "Start it with `serve run MODULE:APP`, or render a serve.yaml with service.files."
        )
    after = one.program.command[one.program.command.index(found[-1]) + 1 :]
    pairs = (word.partition("=") for word in after if not word.startswith("-") and "=" in word)
    return found[-1], {name: value for name, _, value in pairs}


def _escaped(text: str) -> str:
    """Compose would take a dollar for a variable of its own."""
    return text.replace("$", "$$")
