"""Presets: parameters and constraints that most services of a kind share, in YAML beside this file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from ruamel.yaml import YAML

from search_spaces.parameter import SpaceError


@dataclass(frozen=True)
class Preset:
    """`parameters` and `constraints` exactly as a spec's `space:` would write them."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    constraints: tuple[str, ...]


def preset_names() -> tuple[str, ...]:
    """The presets that ship with the product, in alphabetical order."""
    folder = resources.files("search_spaces") / "presets"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def load_preset(name: str) -> Preset:
    """Raises SpaceError naming the presets that there are."""
    if name not in preset_names():
        raise SpaceError(f"no preset is named {name!r}; there are {', '.join(preset_names())}", ("preset",))
    text = (resources.files("search_spaces") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    content = YAML(typ="safe", pure=True).load(text)
    return Preset(name, content["description"], content["parameters"], tuple(content.get("constraints", ())))
