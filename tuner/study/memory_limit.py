"""Whether a parameter limits the server's memory and does nothing else to it."""

from __future__ import annotations

from tuner.errors import SpecError
from tuner.launch.render import placeholders, templates
from tuner.search.memory import MemoryLimit
from tuner.spec.reading import LoadedSpec


def memory_limit(loaded: LoadedSpec) -> MemoryLimit | None:
    """The one parameter with the role `memory`; None where there is none or several, where several services are
    launched, or where a command, a variable or a file is told its value: a heap may be sized by that.
    """
    limits = [one for one in loaded.space.parameters if one.role == "memory"]
    if len(limits) != 1 or len(loaded.services) > 1:
        return None
    try:
        told = any(limits[0].name in placeholders(text) for _, text in templates(loaded))
    except SpecError:  # a file is gone since, where a study is read later
        return None
    return None if told else MemoryLimit(loaded.space, limits[0])
