"""YAML with a head that says where it comes from."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from results.exports.deployable import Deployable
from results.text import assigned, figure, interval, visible

Document = dict[str, Any]
NO_IMAGE = "IMAGE"


def to_yaml(documents: Sequence[Document], head: str) -> str:
    """Documents under a comment. Text is quoted where YAML would take it for something else."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 4096
    yaml.representer.ignore_aliases = lambda *_: True  # type: ignore[method-assign,unused-ignore]
    text = io.StringIO()
    yaml.dump_all(list(documents), text)
    return "\n".join(f"# {line}" for line in visible(head).splitlines()) + "\n" + text.getvalue()


def header(one: Deployable) -> str:
    """What was measured, for a comment: one line that nothing can break out of."""
    sure = interval(one.capacity)
    text = f"tune: {one.service}: {assigned(one.configuration)} holds {figure(one.capacity.value)} requests/s"
    text += f" within {one.limit}"
    text += f" (95% sure of {sure})" if sure else ""
    text += "" if one.confirmed else "; measured once only"
    if one.qps is not None:
        text += f"; replicas for {figure(one.qps)} requests/s"
    text += "".join(f"; {note}" for note in one.notes)
    if one.secrets:
        text += f"; {', '.join(one.secrets)} are secrets, which are for you to provide"
    if one.image is None:
        text += f"; {NO_IMAGE} stands for your image, since the spec names none"
    return " ".join(visible(text).split())
