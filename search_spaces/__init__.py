"""The space of configurations that a search may pick from: parameters, roles, constraints, presets.

Everything here is a value or a pure function over values: nothing is launched, sampled by a model, priced or stored,
and no other room (nor Optuna) is known. Expressions in constraints are parsed and interpreted here, never `eval`ed.
"""

from search_spaces.expression import Constraint, ExpressionError
from search_spaces.parameter import (
    RESOURCE_ROLES,
    ROLES,
    Configuration,
    Parameter,
    ParameterValue,
    Role,
    SpaceError,
)
from search_spaces.presets import Preset, load_preset, preset_names
from search_spaces.space import SearchSpace, SpaceSize
from search_spaces.values import QuantityError, mig_memory, parse_duration, parse_percentage, parse_size, quantity

__all__ = [
    "RESOURCE_ROLES",
    "ROLES",
    "Configuration",
    "Constraint",
    "ExpressionError",
    "Parameter",
    "ParameterValue",
    "Preset",
    "QuantityError",
    "Role",
    "SearchSpace",
    "SpaceError",
    "SpaceSize",
    "load_preset",
    "mig_memory",
    "parse_duration",
    "parse_percentage",
    "parse_size",
    "preset_names",
    "quantity",
]
