"""Images that no engine takes by their name, and those that the first trial would wait for."""

from __future__ import annotations

import re
from collections.abc import Iterator

from runners import Runner
from search_spaces.reading import quoted
from tuner.launch.adapter import image_of
from tuner.spec.reading import LoadedSpec

# As the reference grammar of the OCI's registries has it: a host with a port, parts in lower case, a tag, a digest.
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_TAG, _DIGEST = r"(?::\w[\w.-]{0,127})?", r"(?:@[A-Za-z0-9+._-]+:[0-9a-fA-F]{32,})?"
_NAME = re.compile(rf"(?:{_HOST}/)?(?P<path>{_PART}(?:/{_PART})*){_TAG}{_DIGEST}", re.ASCII)
_SCHEME = re.compile(r"^\w+://")
_MAX_PATH = 255  # of the repository alone: a registry, a tag and a digest come on top of it


def check_images(loaded: LoadedSpec) -> None:
    """Raises SpecError for an image that an engine, or a cluster, refuses by its name alone."""
    for service in loaded.services:
        image = service.loaded.spec.service.image
        if image is not None and (why := _why_no_name(image)):
            raise service.loaded.error(("service", "image"), f"{quoted(image, 100)} is no name of an image: {why}")


def _why_no_name(image: str) -> str | None:
    if named := _NAME.fullmatch(image):
        return f"its repository has more than {_MAX_PATH} characters" if len(named["path"]) > _MAX_PATH else None
    plain = "-".join(_SCHEME.sub("", image).rstrip(":/ ").split())
    path, colon, tag = plain.rpartition(":") if ":" in plain.rpartition("/")[2] else (plain, "", "")
    meant = f"{path.lower()}{colon}{tag}"
    return f"did you mean {meant}?" if _NAME.fullmatch(meant) else "write it as in registry.example.com/team/server:1.2"


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
