"""Servers that the user's own commands start, find and end: Slurm, Nomad, compose, an endpoint of a cloud.

No shell reads the commands. A launch is written down before it begins, so that the next run, or `tune clean`, can run
`down` if this process is killed.
"""

from runners.command.commands import Commands, CommandTimes
from runners.command.runner import CommandRunner
from runners.command.teardown import remove_commands

__all__ = ["CommandRunner", "CommandTimes", "Commands", "remove_commands"]
