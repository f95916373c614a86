"""Places where a server can run, behind one seam (`runners.protocol`): a container in, a ready endpoint out.

Whatever a runner starts is gone when its `launch` context is left, and carries marks by which `remove_leftovers` finds
it after a crash. Nothing here knows of search, load, prices or storage; it takes plain rendered values.
"""

from runners.leftovers.cleanup import remove_leftovers
from runners.leftovers.ownership import is_gone, ownership_environment, this_owner, this_place
from runners.process.runner import ProcessRunner
from runners.protocol import (
    Beside,
    Container,
    Endpoint,
    FoundRunning,
    InClusterLoad,
    Infeasible,
    KnowsPrices,
    Leftover,
    LoadJobUnavailable,
    LocalProcesses,
    NotBeside,
    Placement,
    Program,
    ReachedInside,
    Readiness,
    Recorded,
    Resources,
    Runner,
    RunnerUnavailable,
    RunsHere,
    SampleRequest,
    ServerFailed,
    Tls,
    Usage,
)
from runners.readiness import out_of_memory
from runners.replay import ReplayRunner, TableError
from runners.retry import retry
from runners.reuse import ReusingRunner

__all__ = [
    "Beside",
    "Container",
    "Endpoint",
    "FoundRunning",
    "InClusterLoad",
    "Infeasible",
    "KnowsPrices",
    "Leftover",
    "LoadJobUnavailable",
    "LocalProcesses",
    "NotBeside",
    "Placement",
    "ProcessRunner",
    "Program",
    "ReachedInside",
    "Readiness",
    "Recorded",
    "ReplayRunner",
    "Resources",
    "ReusingRunner",
    "Runner",
    "RunnerUnavailable",
    "RunsHere",
    "SampleRequest",
    "ServerFailed",
    "TableError",
    "Tls",
    "Usage",
    "is_gone",
    "out_of_memory",
    "ownership_environment",
    "remove_leftovers",
    "retry",
    "this_owner",
    "this_place",
]
