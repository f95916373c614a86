"""What the command line's options take: quantities as a spec writes them, rates, formats and budgets."""

from __future__ import annotations

import contextlib
import math
import re
from pathlib import Path
from typing import Any

import click

_SPDX = re.compile(r"\(*[A-Za-z0-9][A-Za-z0-9.+-]*\)*( (AND|OR|WITH) \(*[A-Za-z0-9][A-Za-z0-9.+-]*\)*)*")
RUNNERS = click.Choice(["process", "docker", "kubernetes", "command", "attach", "replay"])
MAX_SEED = 2**32 - 1  # of NumPy
FORMATS = (
    "kubernetes", "patch", "helm-values", "kserve", "kubedl", "seldon", "ray-serve", "compose", "keda",
    "leader-worker-set", "inference-pool", "llm-inference-service", "vllm", "sglang", "json", "triton", "torchserve",
    "tf-serving", "mlserver",
)  # fmt: skip
_ALIASES = {
    "k8s": "kubernetes", "kustomize": "patch", "helm": "helm-values", "ray": "ray-serve", "rayserve": "ray-serve",
    "docker-compose": "compose", "tensorflow-serving": "tf-serving", "tfserving": "tf-serving",
    "lws": "leader-worker-set", "leaderworkerset": "leader-worker-set", "inferencepool": "inference-pool",
    "llminferenceservice": "llm-inference-service", "llmisvc": "llm-inference-service", "scaledobject": "keda",
    "terraform": "json", "pulumi": "json",
}  # fmt: skip


class NamedPath(click.Path):
    """A path that is not empty: an empty one usually comes from a shell variable that is not set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Raises BadParameter."""
        if str(value) == "":
            self.fail("the path is empty; is a variable not set?", param, ctx)
        return super().convert(value, param, ctx)


PATH = NamedPath(path_type=Path)


class Licence(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """An SPDX expression: `CC0-1.0`, `MIT OR Apache-2.0`."""

    name = "SPDX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises BadParameter."""
        if str(value).strip() and not _SPDX.fullmatch(str(value)):  # an empty one is refused by the command
            self.fail("it is not an SPDX identifier, such as CC0-1.0, CC-BY-4.0 or Apache-2.0", param, ctx)
        return str(value)


class Parsed(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A quantity as a spec writes it: `30s`, `0.1%`, `$2000`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises BadParameter."""
        from search_spaces import QuantityError, parse_duration, parse_percentage
        from tuner.spec.quantities import parse_money

        if isinstance(value, float):
            return value
        try:
            return {"duration": parse_duration, "share": parse_percentage, "money": parse_money}[self.name](value)
        except QuantityError as error:
            self.fail(str(error), param, ctx)


class Change(Parsed):
    """A share above 0: any noise hides a change of 0."""

    def __init__(self) -> None:
        super().__init__("share")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises BadParameter."""
        share = super().convert(value, param, ctx)
        if share <= 0:
            self.fail(f"{value!r} is not a change; write for example 10%", param, ctx)
        return share


class Rate(click.FloatRange):
    """Requests per second: a finite number that a load could really have."""

    name = "N"

    def __init__(self, *, above_zero: bool = True) -> None:
        super().__init__(min=0, min_open=above_zero, max=1e9)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Raises BadParameter."""
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail("it is not a number", param, ctx)
        return found


class Format(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """An export's format, by its name or by one that people know it by."""

    name = "format"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises BadParameter."""
        known = str(value).lower().replace("_", "-")
        return str(click.Choice(FORMATS).convert(_ALIASES.get(known, known), param, ctx))


class Budget(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number of trials, a time in seconds (a float), or `auto` (None)."""

    name = "N|TIME|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float | None:
        """Raises BadParameter."""
        if value is None or isinstance(value, int | float):
            return value
        if str(value) == "auto":
            return None
        from search_spaces import QuantityError, parse_duration
        from search_spaces.reading import quoted

        text, found = str(value).strip(), 0.0
        with contextlib.suppress(QuantityError, ValueError):
            found = int(text) if text.lstrip("+-").isdecimal() else parse_duration(text)
        if found <= 0:
            text = f"{quoted(value)} is not a budget; write a number of trials (20), a time (2h, 90m) or auto"
            self.fail(text, param, ctx)
        return found


def whichever_first(
    context: click.Context, parameter: click.Parameter, values: tuple[int | float | None, ...]
) -> int | None:
    """Of several `--budget`s, the smallest number of trials. The shortest time is kept as another parameter."""
    del parameter
    context.params["max_time"] = min((one for one in values if isinstance(one, float)), default=None)
    return min((one for one in values if isinstance(one, int)), default=None)
