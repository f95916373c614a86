"""The runner for containers of Docker's engine, with the sharing out of the GPUs that the spec names.

The only room that imports Docker's client. It pulls and builds no image.
"""

from runners.docker.runner import DockerOptions, DockerRunner, remove_containers

__all__ = ["DockerOptions", "DockerRunner", "remove_containers"]
