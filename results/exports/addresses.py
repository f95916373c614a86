"""Where an exported service listens, and where the services of a chain reach one another: at the address that each
format's platform gives them.
"""

from __future__ import annotations

import hashlib

from results.exports.deployable import kubernetes_name

SELDON_PREDICTOR = "tuned"
_NAMESPACE = "NAMESPACE"
_PORT, _SERVICE_PORT = 8000, 80
KUBEDL_PORT = 8080  # to which KubeDL's Services lead, whatever the container says
_MAX_SERVICE = 63  # letters of a Service's name


def listens_at(format_name: str, given: int | None, *, told: bool) -> int:
    """The port of the server in its container: `given` by the spec, or one that it is `told` for the format."""
    return KUBEDL_PORT if told and format_name == "kubedl" else given or _PORT


def called_at(format_name: str, service: str, port: int) -> str:
    """Host and port of a service that listens on that port, for the services that call it."""
    name = kubernetes_name(service)
    if format_name in ("compose", "helm-values", "ray-serve"):  # itself; a chart's Service has the same port
        return f"{name}:{port}"
    if format_name == "kubedl":
        return f"{name}:{KUBEDL_PORT}"
    if format_name == "kserve":  # Knative's gateway tells services apart by their host, which needs the namespace
        return f"{name}-predictor.{_NAMESPACE}:{_SERVICE_PORT}"
    if format_name == "seldon":  # the container's own Service: the predictor's answers Seldon's own paths alone
        return f"{_seldon_service(f'{name}-{SELDON_PREDICTOR}-{name}')}:{port}"
    return f"{name}:{_SERVICE_PORT}"  # the Service that is exported with it


def to_replace(format_name: str) -> str:
    """What a reader has to write into those addresses; empty if nothing."""
    if format_name == "kserve":
        return f"{_NAMESPACE} in the addresses of what it calls stands for the namespace that these are deployed into"
    if format_name == "ray-serve":
        return "the hosts in the addresses of what it calls stand for those of their Ray clusters"
    return ""


def _seldon_service(name: str) -> str:
    """Seldon's operator shortens names that are too long for a Service."""
    digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
    return name if len(name) <= _MAX_SERVICE else f"seldon-{digest}"
