"""What the user sees while a study runs: lines, a live view on a terminal, or JSON for machines.

The loop tells a `Display` what happens; no display decides anything. Progress goes to standard error, so that standard
output holds the result alone. An `Observer` says nothing: programs that call `tune` derive their own from it.
"""

from tuner.display.protocol import BudgetOutline, Display, EarlierTrials, SpaceOutline, StudyOutline
from tuner.display.select import make_display
from tuner.display.silent import Observer

__all__ = [
    "BudgetOutline",
    "Display",
    "EarlierTrials",
    "Observer",
    "SpaceOutline",
    "StudyOutline",
    "make_display",
]
