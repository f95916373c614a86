"""What can be known to be wrong with a chain before its services are launched."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from tuner.launch.adapter import serving
from tuner.launch.render import addresses, templates
from tuner.spec.reading import LoadedSpec


def check_chain(loaded: LoadedSpec) -> None:
    """Raises SpecError for a runner that cannot give a service its neighbours' addresses, an address of a service that
    is not called, and a service that nothing can call since its address is nowhere.
    """
    chain = loaded.chain
    if chain is None:
        return
    check_runner(loaded)
    asked = {service.name: _asked(service.loaded) for service in loaded.services}
    for service in loaded.services:
        for caller in chain.callers(service.name):
            if service.name not in asked[caller]:
                raise service.loaded.error(
                    ("after",),
                    f"{service.name} comes after {caller}, whose command, env and files have no "
                    f"{{url:{service.name}}}, so it would never be called; write it there",
                )


def check_runner(loaded: LoadedSpec) -> None:
    """Raises SpecError for a chain on a runner that cannot give a service its neighbours' addresses."""
    if loaded.chain is not None and not loaded.spec.runner.connects_services:
        raise loaded.error(
            ("runner", "type"),
            f"{loaded.spec.runner.type} cannot launch a chain: services are given each other's addresses as processes, "
            "in Docker and on Kubernetes only; use runner: {type: process}, {type: docker} or {type: kubernetes}",
        )


def _asked(loaded: LoadedSpec) -> set[str]:
    """The services whose addresses a service is told. Raises SpecError for one that it does not call."""
    found = set()
    for key, text in templates(loaded):
        for placeholder in addresses(text):
            name = placeholder.partition(":")[2]
            if key[1] == "manage":
                raise loaded.error(
                    key, f"{{{placeholder}}} is known at the start only; write it in command, env or files"
                )
            if name not in loaded.calls:
                raise loaded.error(key, _not_called(loaded, placeholder, name))
            found.add(name)
    return found


def _not_called(loaded: LoadedSpec, placeholder: str, name: str) -> str:
    assert loaded.chain is not None  # noqa: S101
    own, names = loaded.spec.service.name, loaded.chain.names
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
        return f"{{{placeholder}}}: no service is called {name}; {hint}"
    if name == own:
        return f"{{{placeholder}}} is this service's own address; write {{host}} and {{port}}"
    return f"{{{placeholder}}}: {name} does not come after {own}; write after: [{own}] in {name}, or remove this"


def unmeasured(loaded: LoadedSpec) -> Iterator[str]:
    """Stages whose time cannot be told from their callers', since nothing says what they are asked."""
    for service in loaded.services:
        spec = service.loaded.spec
        if service.loaded.is_called and "request" not in spec.model_fields_set and serving(service.loaded) is None:
            yield (
                f"{service.name} has no request, so its time counts as its caller's: write in request: what the caller "
                "sends it"
            )
