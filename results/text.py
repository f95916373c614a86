"""Values as people read them, and text of unknown origin made harmless.

Logs, reasons and parameter values come from servers and specs, so they may hold anything: markup, terminal escapes,
characters that reorder a line. Reports show all of it as text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from results.trial_parts import Estimate
from search_spaces.parameter import text_of

NONE = "\N{EN DASH}"

# C0 and C1 controls (terminal escapes), marks that reorder text, line separators, and halves of surrogate pairs.
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)
# Only what would mean something to Markdown: `p99 <= 50 ms` and `batch_size` stay as they are.
_MARKUP = re.compile(r"[\\`*\[\]|#~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_ENTITY = re.compile(r"&(?=[A-Za-z#])")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_BLOCK_START = re.compile(r"^(?:[-+](?=\s|$)|>|[-=]+$|\d+(?=[.)](?:\s|$)))")
_MENTION = re.compile(r"(?<!\w)@(?=\w)")
# What a reason says of one launch alone: its name, an address in memory, a date or a time, a process, a port.
_PASSING = re.compile(
    r"\btune-[\w-]+|\b0x[0-9a-f]+|\b\d+(?:[-:/T]\d+)+(?:[.,]\d+)?Z?|\b(?:pid|port)[ =:]*\d+|(?<=:)\d{4,5}\b",
    re.IGNORECASE,
)
_MEASURED = re.compile(r"\b\d[\d,.]*(?= (?:of|requests|ms|s|MiB|GiB)\b)")
_METRICS = {
    "cost_per_million_requests": "cost per million requests",
    "cost_per_hour": "cost per hour",
    "capacity_qps": "requests/s within the SLO",
    "p99_ms": "p99, ms",
    "cost_per_million_output_tokens": "cost per million output tokens",
    "cost_per_million_tokens": "cost per million tokens",
    "energy_per_million_output_tokens": "Wh per million output tokens",
    "energy_per_million_tokens": "Wh per million tokens",
    "energy_per_million_requests": "Wh per million requests",
    "tokens_per_second": "tokens/s within the SLO",
    "best_effort_qps": "best-effort requests/s",
}


def visible(text: str) -> str:
    r"""Hidden characters as their escapes (`\x1b`, `\u202e`); tabs and line ends stay."""

    def escape(match: re.Match[str]) -> str:
        code = ord(match[0])
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return _HIDDEN.sub(escape, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The same on one line, for a terminal: neither a control character nor a mark that reorders text reaches it."""
    return visible(text).replace("\n", " ").replace("\t", " ")


def in_common(reason: str, configuration: Mapping[str, object]) -> str:
    """What is left of a trial's reason in every other launch that ends alike; values of its configuration stay."""
    own = {str(value) for value in configuration.values()}
    return _PASSING.sub(lambda found: found[0] if found[0] in own else "", reason)


def without_figures(reason: str, configuration: Mapping[str, object]) -> str:
    """As `in_common`, and without what was measured: what is left is alike in all trials that end for one reason."""
    return _MEASURED.sub("", in_common(reason, configuration))


def markdown(text: str) -> str:
    """Text on one line that Markdown, the HTML in it and GitHub's mentions show as it is."""
    line = " ".join(visible(text).split())
    line = _MARKUP.sub(r"\\\g<0>", line)
    line = _TAG.sub("&lt;", _ENTITY.sub("&amp;", line))
    line = _BLOCK_START.sub(lambda match: match[0] + "\\" if match[0].isdigit() else "\\" + match[0], line)
    return _MENTION.sub("@<!-- -->", line)  # a report in a pull request must notify nobody


def figure(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits, without an exponent where people read none; a dash for none."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else "-\N{INFINITY}"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e12:
        return f"{value:.{digits - 1}e}"
    return _fixed(value, digits)


_SIGNS = {"USD": "$"}


def currency_sign(code: str) -> str:
    """`$` for `USD`; any other code as it is, which is written behind the amount."""
    return _SIGNS.get(code, code)


def money(value: float | None, currency: str, *, whole_from: float = 1000.0) -> str:
    """Three digits below 1 (`$0.00210`), hundredths below `whole_from`, whole units above. `currency` is a code or a
    sign. Amounts that are compared with each other are shown by `money_alike`.
    """
    currency = currency_sign(currency)
    if value is None or not math.isfinite(value):
        return NONE
    size_of = abs(value)
    if size_of >= 1:
        amount = f"{size_of:,.2f}" if size_of < whole_from else f"{size_of:,.0f}"
    else:
        amount = _fixed(size_of, 3) if size_of >= 1e-9 else "0"
    sign = "-" if value < 0 else ""
    return f"{sign}{amount} {currency}" if currency.isalnum() else f"{sign}{currency}{amount}"


def money_alike(amounts: Iterable[float | None], currency: str) -> Callable[[float | None], str]:
    """How each of the amounts of a table is shown: all with hundredths, or all in whole units where the largest is
    1,000 or more and none is so small (below 10) that its hundredths tell something.
    """
    sizes = [abs(amount) for amount in amounts if amount and math.isfinite(amount)]
    whole = max(sizes, default=0.0) >= 1000 and min(sizes) >= 10
    return partial(money, currency=currency, whole_from=1.0 if whole else math.inf)


def money_between(
    low: float, high: float, currency: str, show: Callable[[float | None], str] | None = None
) -> str | None:
    """`$51.20 to $64.90`, both alike or as `show` has it; None where both ends read the same, so that nothing is said
    twice.
    """
    show = show or money_alike((low, high), currency)
    ends = show(low), show(high)
    return None if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def share(value: float | None) -> str:
    """A share of 1 in percent: `0.12%`; what nobody would count is `under 0.001%`."""
    if value is not None and 0 < value < 1e-5:
        return "under 0.001%"
    return NONE if value is None or math.isnan(value) else f"{figure(100 * value, 2)}%"


def goodput(good: float | None, of: int | None) -> str | None:
    """`97.1% of 412 requests good`; None where the SLO asks for no goodput."""
    if good is None:
        return None
    return f"{100 * good:.1f}% of {of:,} requests good" if of else f"{100 * good:.1f}% of the requests good"


def energy(watt_hours: float | None) -> str | None:
    """`97.2 Wh per million output tokens`; None where no power was measured."""
    return None if watt_hours is None else f"{figure(watt_hours)} Wh per million output tokens"


def size(value: int | None) -> str:
    """Bytes in MiB, or in GiB from one on."""
    if value is None:
        return NONE
    return f"{value / 2**20:,.0f} MiB" if value < 2**30 else f"{figure(value / 2**30)} GiB"


def counted(number: object, noun: str) -> str:
    """`1 trial`, `20 trials`. A number that is counted to a bound only is text: `over 10,000 trials`."""
    return f"{number} {noun}" if str(number) == "1" else f"{number} {noun}s"


def duration(seconds: float | None) -> str:
    """`2.1 s`, `45 s`, `12 min`, `1.5 h`."""
    if seconds is None or math.isnan(seconds):
        return NONE
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def seen_at(rate_qps: float | None, requests: int | None) -> str | None:
    """`at 104 requests/s, of 1,240 requests`: where a percentile was seen; None where nobody knows, as of a table."""
    rate = "" if rate_qps is None else f"at {figure(rate_qps)} requests/s"
    count = "" if not requests else f"of {requests:,} requests"
    return ", ".join(filter(None, (rate, count))) or None


def milliseconds(value: float | None) -> str:
    """`21.7 ms`."""
    return NONE if value is None or math.isnan(value) else f"{figure(value)} ms"


def given(value: object) -> str:
    """A parameter's value as it is written in a spec; a dash where a trial has none."""
    if value is None:
        return NONE
    return text_of(value)


def assigned(configuration: Mapping[str, object]) -> str:
    """`cpu_cores=2 threads=1`."""
    return " ".join(f"{name}={given(value)}" for name, value in configuration.items())


def interval(estimate: Estimate | None) -> str | None:
    """`398 to 425`; None where nothing is uncertain, as in a recorded table, or both ends read the same."""
    if estimate is None or not estimate.low < estimate.high:
        return None
    low, high = figure(estimate.low), figure(estimate.high)
    return None if low == high else f"{low} to {high}"


def estimated(estimate: Estimate) -> str:
    """`127 (127 to 1,190)`: with its interval, if it has one."""
    ends = interval(estimate)
    return figure(estimate.value) + (f" ({ends})" if ends else "")


def probability(value: float | None) -> str:
    """As a percentage; never 100%, since it was estimated from draws."""
    if value is None or math.isnan(value):
        return NONE
    if value > 0.999:
        return "over 99.9%"
    return f"{value:.1%}" if value > 0.99 else f"{value:.0%}"


def change(before: float | None, after: float | None) -> str:
    """`38% less`, `12% more`, `4.2 times as much`, `the same`; a dash where there is nothing to compare."""
    if before is None or after is None or not before > 0 or not math.isfinite(after / before):
        return NONE
    ratio = after / before
    if ratio >= 3:
        return f"{figure(ratio, 2)} times as much"
    percent = abs(ratio - 1)
    if percent < 0.005:
        return "the same"
    return f"{percent:.0%} {'more' if ratio > 1 else 'less'}"


_SAME = 0.0005
_WORDS = {
    "p99_ms": ("lower", "higher"),
    "capacity_qps": ("more", "less"),
    "tokens_per_second": ("more", "less"),
    "energy_per_million_output_tokens": ("less energy", "more energy"),
    "energy_per_million_tokens": ("less energy", "more energy"),
    "best_effort_qps": ("more", "less"),
}


def better_by(metric: str, share_: float) -> str:
    """A share by which a metric is better, with the word for it: `23% cheaper`, `4.1% dearer`, `the same`."""
    better, worse = _WORDS.get(metric, ("cheaper", "dearer"))
    return "the same" if abs(share_) < _SAME else f"{_size(share_)} {better if share_ > 0 else worse}"


def between(metric: str, saving: Estimate) -> str:
    """The interval of such a share: `from 3.1% to 25% cheaper`; where it may be either, `from 4.0% dearer to 9.0%
    cheaper`.
    """
    if saving.low >= _SAME:
        return f"from {_size(saving.low)} to {better_by(metric, saving.high)}"
    if saving.high <= -_SAME:
        return f"from {_size(saving.high)} to {better_by(metric, saving.low)}"
    return f"from {better_by(metric, saving.low)} to {better_by(metric, saving.high)}"


def _size(share_: float) -> str:
    return f"{abs(share_):.1%}" if abs(share_) < 0.1 else f"{abs(share_):.0%}"


def _fixed(value: float, digits: int) -> str:
    rounded = float(f"{value:.{digits - 1}e}")  # 9.999 has become 10.0, one digit more, before decimals are counted
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}"


def metric_name(metric: str) -> str:
    """A metric in words."""
    return _METRICS.get(metric, metric)
