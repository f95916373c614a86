"""Which display suits where the output goes."""

from __future__ import annotations

import sys

from tuner.display.machine import JsonDisplay
from tuner.display.plain import PlainDisplay
from tuner.display.protocol import Display


def make_display(*, as_json: bool) -> Display:
    """JSON where asked for, a live view on a terminal, plain lines elsewhere."""
    if as_json:
        return JsonDisplay()
    if sys.stderr.isatty():
        from tuner.display.live import LiveDisplay

        return LiveDisplay()
    return PlainDisplay()
