"""Servers that commands of the user's start, find and end: Slurm, Nomad, compose, an endpoint of a cloud.

No shell reads the commands. What was begun is written down first, so that `down` is run by whoever comes next where
this process is killed.
"""

from runners.command.commands import Commands, CommandTimes
from runners.command.runner import CommandRunner
from runners.command.teardown import remove_commands

__all__ = ["CommandRunner", "CommandTimes", "Commands", "remove_commands"]
