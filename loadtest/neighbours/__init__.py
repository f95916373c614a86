"""What others on the machine do to a server while it is measured, and how fast the machine is.

It reads the kernel's own counters, from the generator's process: the time that each core was busy, less what the server
and the generator used of it; what a hypervisor stole; how long tasks waited for memory; how often a shared CPU quota
was used up. It says nothing where it cannot know the server's own use (another machine, another container's processes).
It never judges a server: it marks a stretch of load as disturbed, has it repeated, and widens what rests on it.
"""

from __future__ import annotations

from loadtest.neighbours.documents import MachineSpeed, Neighbours, ServerProcesses, Slowness

__all__ = ["MachineSpeed", "Neighbours", "ServerProcesses", "Slowness"]
