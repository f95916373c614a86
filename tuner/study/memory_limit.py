"""Whether a parameter limits the server's memory and does nothing else to it."""

from __future__ import annotations

from tuner.launch.render import placeholders, templates
from tuner.search.memory import MemoryLimit
from tuner.spec.reading import LoadedSpec


def memory_limit(loaded: LoadedSpec) -> MemoryLimit | None:
    """The one parameter with the role `memory`; None where there is none or several, where several services are
    launched, or where a command, a variable or any file may be told its value: a heap may be sized by that. It goes by
    the spec alone, so that a study is read later as it was when it ran.
    """
    limits = [one for one in loaded.space.parameters if one.role == "memory"]
    if len(limits) != 1 or len(loaded.services) > 1 or loaded.spec.service.files:
        return None
    told = any(limits[0].name in placeholders(text) for _, text in templates(loaded))
    return None if told else MemoryLimit(loaded.space, limits[0])
