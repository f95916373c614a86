"""What is asked and said about neighbours: parts of the load plan and of its answer."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerProcesses(_Document):
    """Where a server runs on the load generator's own machine, and which processes it consists of.

    They are those of `pids` and all that descend from them, are in a session that one of them leads, or have all of
    `environ` in their environment. Where one of `pids` has a cgroup of its own, that is asked instead.
    """

    cores: tuple[int, ...] = Field(min_length=1, description="the CPU cores that it may use")
    pids: tuple[int, ...] = Field(min_length=1)
    environ: dict[str, str] = Field(default_factory=dict)


class Slowness(_Document):
    """What slowed everything on the machine down during a stretch of time. None: the kernel does not say."""

    memory_stalled: float | None = Field(default=None, description="share of time in which a task waited for memory")
    quota_throttled: float | None = Field(
        default=None, description="share of periods in which a CPU quota that the generator shares was used up"
    )
    frequency: float | None = Field(
        default=None, description="highest clock of the server's cores, over the highest seen in this load test"
    )
    memory_speed: float | None = Field(
        default=None, description="of a copy after it, over the fastest in this load test"
    )
    lost: float = Field(default=0.0, description="share of its speed that a server lost by it, beyond its noise")


class Neighbours(_Document):
    """What others did on the server's cores during a stretch of time. All `_cores` are means over it, in cores.

    `reason` says in words why the stretch is disturbed; it is empty where it is not.
    """

    duration_s: float
    server_cores: int = Field(description="how many cores the server may use")
    server_used_cores: float = Field(description="what the server itself used of them")
    server_waited_cores: float | None = Field(
        default=None, description="how many of its threads were ready to run and waited for a core; None: not known"
    )
    others_cores: float = Field(description="what was not idle, and used by neither server, generator nor tuner")
    generator_cores: float = Field(default=0.0, description="what the load generator and the tuner used of them")
    stolen_cores: float = Field(default=0.0, description="what a hypervisor gave to other virtual machines")
    elsewhere_cores: float = Field(default=0.0, description="what others used of the machine's other cores")
    slowness: Slowness = Slowness()
    repeats: int = Field(default=0, description="how often this was measured again, because others disturbed it")
    reason: str = ""

    @property
    def disturbed(self) -> bool:
        """Whether what was seen in this stretch may be the neighbours' doing."""
        return bool(self.reason)

    @property
    def lost_cores(self) -> float:
        """What others kept from the server: they ran while it waited. Where that is not known, all that they used."""
        waited = self.others_cores if self.server_waited_cores is None else self.server_waited_cores
        return min(self.others_cores, waited) + self.stolen_cores

    @property
    def taken(self) -> float:
        """The share of its speed that the server lost to others, 0 to 1, at most: what it waited for a core over what
        it wanted. Where the CPU is not its limit, as with a server that waits for a disk or a GPU, it lost less.
        """
        return self.taken_while(0.0)

    def taken_while(self, busy: float) -> float:
        """The same of a server that had requests to answer for so large a share of the time: it lost no more of that
        than it waited for a core, however little CPU time it used meanwhile.
        """
        lost = self.lost_cores
        share = lost / max(1e-9, self.server_used_cores + lost)
        if self.server_waited_cores is not None and busy > 0:
            share = min(share, lost / busy)
        return min(1.0, max(share, self.slowness.lost))


class MachineSpeed(_Document):
    """How long fixed work takes on the server's cores while the server has nothing to do.

    Two load tests on machines of one kind can be compared by it: other times mean another clock, or neighbours.
    """

    work_ms: float = Field(
        description="CPU time of a fixed loop of integers, mean over the server's cores and pauses of the load"
    )
    work_error: float | None = Field(
        default=None,
        description="standard error of that, as a share; None: too few pauses, or the server was busy in them",
    )
    copy_ms: float = Field(
        description="time to copy 16 MiB before the load, which neighbours that fill the memory's bandwidth prolong"
    )
