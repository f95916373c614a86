"""The request that readiness and the load test send, as the spec's `request:` describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtest import RequestPlan
from tuner.spec_file import LoadedSpec


@dataclass(frozen=True)
class RequestSource:
    """`sample` is one body that is really sent; `plan` is what the load generator is told."""

    method: str
    path: str
    headers: Mapping[str, str]
    sample: bytes | None
    plan: RequestPlan


def request_source(loaded: LoadedSpec) -> RequestSource:
    """Raises SpecError for a data set that is missing, empty, or not JSON lines."""
    spec = loaded.spec.request
    headers = dict(spec.headers)
    body, dataset = spec.body, None
    if spec.json_body is not None:
        body = json.dumps(spec.json_body)
    if spec.dataset is not None:
        dataset = str(loaded.folder / spec.dataset)
        body = _first_line(loaded, Path(dataset))
    if body is not None and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = "application/json" if _is_json(body) else "text/plain; charset=utf-8"
    plan = RequestPlan(
        method=spec.method, path=spec.path, headers=headers, body=None if dataset else body, dataset=dataset
    )
    return RequestSource(spec.method, spec.path, headers, body.encode() if body is not None else None, plan)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _first_line(loaded: LoadedSpec, path: Path) -> str:
    """Every line is checked here, once, so that a bad one is found before the first server is launched."""
    key = ("request", "dataset")
    first: str | None = None
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                if not _is_json(line):
                    raise loaded.error(key, f"{path}:{number} is not JSON; a data set holds one JSON value a line")
                first = line.strip() if first is None else first
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise loaded.error(key, f"cannot read {path}: {why}") from error
    if first is None:
        raise loaded.error(key, f"{path} is empty; a data set holds one JSON value a line")
    return first
