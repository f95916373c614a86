"""Inputs that once decided wrongly, hung, left their folder or ended as internal errors, and their siblings.

Each is one call of the command line in a folder of its own, with the exit code and the words that are right. What needs
a server, load or a cluster is a test of the suite, which the table names: `python -m benchmarks.wrong_inputs`.
"""

from benchmarks.wrong_inputs.cases import CASES
from benchmarks.wrong_inputs.elsewhere import TESTS
from benchmarks.wrong_inputs.odd import ODD
from benchmarks.wrong_inputs.siblings import SIBLINGS as FIRST
from benchmarks.wrong_inputs.strangers import STRANGERS
from benchmarks.wrong_inputs.trying import Case, Scratch, Tried

SIBLINGS = (*FIRST, *ODD, *STRANGERS)

__all__ = ["CASES", "SIBLINGS", "TESTS", "Case", "Scratch", "Tried"]
