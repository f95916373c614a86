"""The section `prices` of a spec, with those of a catalogue or of a machine beneath it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search_spaces.reading import is_file
from tuner.errors import UsageError
from tuner.spec.prices.catalogue import OwnHardware, catalogue_names, is_catalogue, load_catalogue
from tuner.spec.yaml_file import YamlFile


def prices_of(file: YamlFile, given: Any) -> Any:
    """What the spec writes of prices, and beneath it those of a catalogue or of a machine: complete without either."""
    if isinstance(given, str):
        path = _folder_of(file) / given
        content = YamlFile.read(path).content if is_file(path) and given not in catalogue_names() else None
        if content is None or is_catalogue(content):
            return prices_of(file, {"catalogue": given})
        if not isinstance(content, dict):
            raise file.error(("prices",), f"{path} holds no prices")
        return prices_of(file, content)
    if not isinstance(given, dict):
        return given
    beneath: dict[str, Any] = {}
    if isinstance(name := given.get("catalogue"), str):
        terms, currency = given.get("terms", "on_demand"), given.get("currency")
        try:
            beneath = load_catalogue(name, _folder_of(file)).as_prices(terms, currency)
        except UsageError as error:
            raise file.error(("prices",), str(error)) from error
    if isinstance(own := given.get("own"), dict):
        try:
            parts = OwnHardware.model_validate(own).parts()
        except ValidationError:
            return given  # it is said with the other errors, where it stands
        beneath = {**beneath, **parts, "gpu_hour": {**beneath.get("gpu_hour", {}), **parts.get("gpu_hour", {})}}
    own_gpus = given.get("gpu_hour") or {}
    if not isinstance(own_gpus, dict):
        return given  # it is said with the other errors, where it stands
    gpus = {**beneath.get("gpu_hour", {}), **own_gpus}
    return {**beneath, **given, **({"gpu_hour": gpus} if gpus else {})}


def _folder_of(file: YamlFile) -> Path:
    """Where its relative paths start: beside what a link leads to. Written as short as the path itself where it can."""
    own, folder = file.path.parent, file.path.resolve().parent
    return own if own.resolve() == folder else folder
