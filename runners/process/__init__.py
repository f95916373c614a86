"""The runner for servers that are plain processes of this machine, and the measurement of what they use.

It uses no container engine, and ends only processes that it started or that carry our marks.
"""

from runners.process.runner import ProcessRunner

__all__ = ["ProcessRunner"]
