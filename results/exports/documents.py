"""YAML with a head that says where it comes from."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import SafeRepresenter

from results.exports.deployable import Deployable
from results.files import ResultsError
from results.text import assigned, energy, figure, goodput, interval, visible

Document = dict[str, Any]
# https://yaml.org/type/: truth values and nothing, numbers of every base (with exponents, underscores and sexagesimal
# ones), dates, and the signs that merges and defaults are written with.
_MISREAD = re.compile(
    r"(?:y|n|yes|no|on|off|true|false|null|none|nan|inf|~|=|<<|)"
    r"|[-+]?[.0-9][-+.:_0-9a-fxoet z]*|[-+]?\.(?:inf|nan)",
    re.IGNORECASE,
)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\xa0\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\uffff]")
NO_IMAGE = "IMAGE"
_PATCHED_TOO = (
    "runner.kubernetes.patch was laid over what was measured, and is not in this: lay it over, too "
    "(the format patch writes it as spec-patch.yaml)"
)


class NotExportable(ResultsError):
    """A format needs something that the study does not say; the message says what, and where to say it."""


def as_whole_pod(one: Deployable, format_name: str) -> Deployable:
    """For a format that writes a whole pod, with a note of what the spec lays over tune's own. Raises NotExportable
    where the pod that was measured is the user's own.
    """
    own = one.workload
    if own is None:
        return one
    if own.file is None:
        return replace(one, notes=(*one.notes, _PATCHED_TOO))
    raise NotExportable(
        f"{one.service} was measured as the workload of {own.file}, and {format_name} knows only what was tuned of it\n"
        f"Export patch, and lay it over {own.file}."
    )


def to_yaml(documents: Sequence[Document], head: str) -> str:
    """Documents under a comment. Text is quoted where YAML would take it for something else."""
    return comment(head) + "---\n".join(body(document) for document in documents)


def body(document: Document) -> str:
    """One document without a head."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Quoting
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 4096
    yaml.representer.ignore_aliases = lambda *_: True  # type: ignore[method-assign,unused-ignore]
    yaml.allow_unicode = not _any_text(document, _UNPRINTABLE.search)
    text = io.StringIO()
    yaml.dump(document, text)
    return text.getvalue()


def comment(text: str) -> str:
    """Lines that nothing can break out of."""
    return "".join(f"# {line}\n" for line in visible(text).splitlines())


def remarked(text: str, key: str, remark: str) -> str:
    """A document's text with a comment above each line that begins with a key. Only for documents without texts of
    others, in which a line could begin so by itself.
    """
    lines = []
    for line in text.splitlines(keepends=True):
        inside = line.lstrip(" -")
        if inside.startswith(f"{key}:"):
            indent = " " * (len(line) - len(inside))
            lines += [f"{indent}# {one}\n" for one in visible(remark).splitlines()]
        lines.append(line)
    return "".join(lines)


def _represented(representer: Any, text: str) -> Any:
    """Quoted where a reader of YAML 1.1 (kubectl, Helm, PyYAML) or 1.2 would take it for something other than text."""
    style = '"' if _UNPRINTABLE.search(text) else "'" if _MISREAD.fullmatch(text) else None
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


class _Quoting(SafeRepresenter):
    """A representer that quotes texts for both versions of YAML."""


_Quoting.add_representer(str, _represented)


def _any_text(content: Any, found: Callable[[str], Any]) -> bool:
    if isinstance(content, Mapping):
        return any(_any_text(part, found) for pair in content.items() for part in pair)
    if isinstance(content, list | tuple):
        return any(_any_text(part, found) for part in content)
    return isinstance(content, str) and found(content) is not None


def header(one: Deployable, *, replicas: bool = True) -> str:
    """What was measured, for a comment: one line that nothing can break out of. `replicas`: the file has a number of
    them.
    """
    text = f"tune: {one.service}: {assigned(one.configuration)} {_held(one)}"
    text += f", {good} at that rate" if (good := goodput(one.measured.good, one.measured.good_of)) else ""
    text += f", {energy(one.measured.energy_wh)}" if one.measured.energy_wh is not None else ""
    text += "" if one.measured.confirmed else "; measured once only"
    if one.qps is not None and replicas:
        text += f"; replicas for {figure(one.qps)} requests/s"
    text += "".join(f"; {note}" for note in one.notes)
    if one.program.secrets:
        are = "is a secret, which is" if len(one.program.secrets) == 1 else "are secrets, which are"
        text += f"; {', '.join(one.program.secrets)} {are} for you to provide"
    if one.program.image is None and one.workload is None:
        text += f"; {NO_IMAGE} stands for your image, since the spec names none"
    return " ".join(visible(text).split())


def _held(one: Deployable) -> str:
    capacity = one.measured.capacity
    if capacity.value <= 0:
        return "runs best effort, with what the services beside it leave"
    sure = interval(capacity)
    said = f"holds {figure(capacity.value)} requests/s within {one.measured.limit}"
    return f"{said} (95% sure of {sure})" if sure else said


def aim(one: Deployable) -> str:
    """A comment that says where an autoscaler's target is from."""
    if one.measured.knee_qps is None:
        source = "80% of the lower bound of what it holds, since no knee was measured"
    elif one.target_qps == one.measured.knee_qps:
        source = "the measured knee"
    else:
        source = "the measured knee, kept within 50% to 90% of the lower bound of what it holds"
    return (
        f"{figure(one.target_qps)} requests/s for each replica: {source}\n"
        f"(it holds {figure(one.measured.capacity.value)} requests/s within {one.measured.limit})"
    )
