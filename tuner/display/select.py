"""Which display suits where the output goes."""

from __future__ import annotations

import sys

from results.percentiles import Percentile
from tuner.display.machine import JsonDisplay
from tuner.display.plain import PlainDisplay
from tuner.display.protocol import Display


def make_display(*, as_json: bool, currency: str = "", limited: tuple[Percentile, ...] = ()) -> Display:
    """JSON where asked for, a live view on a terminal, plain lines elsewhere. `currency`, and what the SLO limits, are
    those of trials which no outline of a study precedes.
    """
    if as_json:
        return JsonDisplay()
    if sys.stderr.isatty():
        from tuner.display.live import LiveDisplay

        return LiveDisplay(currency=currency, limited=limited)
    return PlainDisplay(currency, limited)
