"""The engine's devices that the spec names for a GPU type and slice."""

from __future__ import annotations

from collections.abc import Mapping

from runners.host.devices import Devices, gpus_text
from runners.protocol import Resources


class NamedDevices(Devices):
    """Devices by GPU type, by slice, or by `type/slice`."""

    def __init__(self, named: Mapping[str, tuple[str, ...]]) -> None:
        self._named = {key: tuple(dict.fromkeys(devices)) for key, devices in named.items()}
        super().__init__(self._named_for)

    def refuses(self, resources: Resources) -> str | None:
        """Refuses GPUs for which no device, or too few devices, are named."""
        if not resources.gpu_count:
            return None
        if resources.shares_compute:
            return f"asks for {gpus_text(resources)}, and a container of Docker's has all of its GPU's compute"
        named = self._named_for(resources)
        if not named:
            known = ", ".join(self._named) or "none"
            return f"asks for {gpus_text(resources)}, and runner.docker.gpus names no device for it (there is {known})"
        if len(named) < resources.gpu_count:
            return f"asks for {gpus_text(resources)}, and runner.docker.gpus names {len(named)} for it"
        return None

    def _named_for(self, resources: Resources) -> tuple[str, ...]:
        parts = [str(part) for part in (resources.gpu_type, resources.gpu_memory) if part is not None]
        for name in ("/".join(parts), str(resources.gpu_memory), str(resources.gpu_type)):
            if name in self._named:
                return self._named[name]
        # A spec that says only how many has one kind of them.
        return next(iter(self._named.values())) if not parts and len(self._named) == 1 else ()
