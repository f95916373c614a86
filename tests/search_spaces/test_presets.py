"""Presets ship with the package and make spaces that hold something."""

from __future__ import annotations

import pytest

from search_spaces import SpaceError, load_preset, preset_names


def test_the_presets_are_listed() -> None:
    assert preset_names() == ("cpu-batching", "cpu-serving", "gpu-serving")


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_describes_itself(name: str) -> None:
    preset = load_preset(name)
    assert preset.description
    assert preset.parameters


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(SpaceError, match="cpu-serving"):
        load_preset("gpu")
