"""Which texts of a study may be published: common words, but no name of a person, host, path or image."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from runners.servers import adapter_named, adapter_names
from search_spaces import Constraint, Parameter, ParameterValue, quantity
from search_spaces.masking import masked

# Values of these roles are the names of products and of number formats. Whatever looks like a place is none.
_PUBLIC_ROLES = frozenset({"gpu_type", "instance_type", "precision", "engine", "memory", "gpu_memory", "gpu_compute"})
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,30}")
_WORDS = frozenset({"auto", "none", "on", "off", "default", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "int4"})


def _known_words() -> frozenset[str]:
    """All words that may be published: the common ones, and the choices of every server adapter's knobs."""
    knobs = (knob for name in adapter_names() for knob in adapter_named(name).knobs)
    return _WORDS | {choice for knob in knobs for choice in knob.choices if isinstance(choice, str)}


@dataclass
class Pseudonyms:
    """Values as they may be published. What may not becomes `NAME-1`, `NAME-2`, ..., the same for the same value, and
    is counted. Values of the parameters in `keep` are published as they are.
    """

    keep: frozenset[str] = frozenset()
    replaced: dict[str, dict[str, str]] = field(default_factory=dict)
    _words: frozenset[str] = field(default_factory=_known_words)

    def value(self, parameter: Parameter, value: ParameterValue) -> ParameterValue:
        """The value itself if it may be published, else its pseudonym."""
        if not isinstance(value, str) or self._public(parameter, value):
            return value
        names = self.replaced.setdefault(parameter.name, {})
        return names.setdefault(value, f"{parameter.name}-{len(names) + 1}")

    def configuration(
        self, parameters: Iterable[Parameter], values: Mapping[str, ParameterValue]
    ) -> dict[str, ParameterValue]:
        """The configuration's values as they may be published, in the space's order."""
        return {one.name: self.value(one, values[one.name]) for one in parameters if one.name in values}

    def may_publish(self, constraint: Constraint, parameters: Iterable[Parameter]) -> bool:
        """Whether a constraint may be published: every text that it compares with is a value that stays as it is."""
        published = {
            value for one in parameters for value in one.choices if isinstance(value, str) and self._public(one, value)
        }
        tree = ast.walk(ast.parse(constraint.text.strip(), mode="eval"))
        return {
            node.value for node in tree if isinstance(node, ast.Constant) and isinstance(node.value, str)
        } <= published

    def _public(self, parameter: Parameter, value: str) -> bool:
        if masked(value) != value:
            return False
        if parameter.name in self.keep or value in self._words or isinstance(quantity(value), float):
            return True
        return parameter.role in _PUBLIC_ROLES and _PLAIN.fullmatch(value) is not None
