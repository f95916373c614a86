"""The recommendation as something to deploy: manifests, and servers' own configuration. It makes text, no more.

A format is one function from a `Deployable` to files; `FORMATS` names those for every spec, servers' own files follow
where the spec runs that server. A format raises NotExportable where it would have to guess.
"""

from collections.abc import Callable, Mapping

from results.exports.addresses import called_at, listens_at, to_replace
from results.exports.deployable import Deployable
from results.exports.documents import NotExportable, as_whole_pod
from results.exports.engines import llm_inference_service, sglang, vllm
from results.exports.kubernetes import helm_values, kubernetes
from results.exports.patches import patch
from results.exports.plain import plain_json
from results.exports.platforms import compose, compose_together, kserve, kubedl, ray_serve, seldon
from results.exports.scaling import inference_pool, keda, leader_worker_set
from results.exports.servers import MARKS, SERVERS, uses

Format = Callable[[Deployable], dict[str, str]]
_WRITERS: Mapping[str, Format] = {
    "kubernetes": kubernetes,
    "patch": patch,
    "helm-values": helm_values,
    "kserve": kserve,
    "kubedl": kubedl,
    "seldon": seldon,
    "ray-serve": ray_serve,
    "compose": compose,
    "keda": keda,
    "leader-worker-set": leader_worker_set,
    "inference-pool": inference_pool,
    "llm-inference-service": llm_inference_service,
    "vllm": vllm,
    "sglang": sglang,
    "json": plain_json,
    **SERVERS,
}
_PARTS = ("patch", "vllm", "sglang", "json", *SERVERS)  # which say nothing of the rest of a pod


def _of_a_pod(name: str, write: Format) -> Format:
    """A format that writes a whole pod: refused where that which was measured is the user's own."""

    def written(one: Deployable) -> dict[str, str]:
        return write(as_whole_pod(one, name))

    return written


FORMATS: Mapping[str, Format] = {
    name: write if name in _PARTS else _of_a_pod(name, write) for name, write in _WRITERS.items()
}


def offered(services: Mapping[str, Deployable]) -> tuple[str, ...]:
    """The formats that make sense for these services."""
    return tuple(name for name in FORMATS if _possible(services, name))


def _possible(services: Mapping[str, Deployable], name: str) -> bool:
    try:
        return bool(exported(services, name))
    except NotExportable:
        return False


def exported(services: Mapping[str, Deployable], name: str) -> dict[str, str]:
    """The files of a format; those of each of several services in a folder of its own, but for Compose, in whose one
    file they reach each other. Empty where none has any.

    Raises NotExportable.
    """
    if name == "compose":
        return compose_together({service: as_whole_pod(one, name) for service, one in services.items()})
    return {
        f"{service}/{file}" if service else file: text
        for service, one in _having(services, name).items()
        for file, text in FORMATS[name](one).items()
    }


def _having(services: Mapping[str, Deployable], name: str) -> dict[str, Deployable]:
    """The services that have that format: a server's own files make sense only if the spec runs that server."""
    return {service: one for service, one in services.items() if name not in SERVERS or uses(one, name)}


__all__ = [
    "FORMATS", "MARKS", "SERVERS", "Deployable", "NotExportable", "called_at", "exported", "listens_at", "offered",
    "to_replace",
]  # fmt: skip
