"""The recommendation as something to deploy: manifests, and servers' own configuration. It makes text, no more.

A format is one function from a `Deployable` to files; `FORMATS` names those for every spec, servers' own files follow
where the spec runs that server.
"""

from collections.abc import Callable, Mapping

from results.exports.deployable import Deployable
from results.exports.kubernetes import helm_values, kubernetes, patch
from results.exports.platforms import compose, kserve, kubedl, ray_serve, seldon
from results.exports.servers import MARKS, SERVERS, uses

FORMATS: Mapping[str, Callable[[Deployable], dict[str, str]]] = {
    "kubernetes": kubernetes,
    "patch": patch,
    "helm-values": helm_values,
    "kserve": kserve,
    "kubedl": kubedl,
    "seldon": seldon,
    "ray-serve": ray_serve,
    "compose": compose,
    **SERVERS,
}


def offered(one: Deployable) -> tuple[str, ...]:
    """The formats that make sense for it."""
    return tuple(name for name in FORMATS if name not in SERVERS or uses(one, name))


__all__ = ["FORMATS", "MARKS", "SERVERS", "Deployable", "offered", "uses"]
