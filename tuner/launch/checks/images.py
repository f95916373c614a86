"""Images that the first trial would wait for."""

from __future__ import annotations

from collections.abc import Iterator

from runners import Runner
from tuner.launch.adapter import image_of
from tuner.spec.reading import LoadedSpec


def absent_images(loaded: LoadedSpec, runner: Runner) -> Iterator[str]:
    """A sentence for each image that Docker's engine has to pull. What its registry says of it is not asked: that may
    take long, and a name without a registry may be found in one that was not meant.
    """
    if loaded.spec.runner.type != "docker":
        return
    from runners.docker.runner import DockerRunner

    assert isinstance(runner, DockerRunner)  # noqa: S101 (by its type)
    for image in dict.fromkeys(filter(None, (image_of(service.loaded) for service in loaded.services))):
        if runner.lacks(image):
            yield (
                f"service.image: Docker has no image {image}, so the first trial waits until it is pulled, and the "
                f"run ends where it cannot be: docker pull {image}, or build it, before the run"
            )
