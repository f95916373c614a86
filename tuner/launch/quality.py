"""The quality guard: a configuration whose answers are not good enough is infeasible, however fast it is.

Answers are compared with labels, or with those of a reference configuration, which is launched once before the first
trial. From each answer a JSON path takes a number, a text, or a nested list of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from jsonpath_rfc9535 import JSONPathEnvironment

from loadtest import Body, PlanError, read_bodies
from runners import Container, Infeasible, Runner, SampleRequest, ServerFailed, Tls
from runners.host.bounded_http import bounded_client
from runners.readiness import encoded, trust
from runners.servers import ServerAddress
from search_spaces.masking import masked_values
from search_spaces.reading import InputError, foreign, parsed_json, read_json, read_text, shown
from tuner.errors import UnfitEnvironmentError
from tuner.launch.adapter import reach
from tuner.launch.prepare import prepare
from tuner.launch.render import TrialLaunch, render
from tuner.launch.requests import RequestSource
from tuner.spec.quality import QualitySpec
from tuner.spec.reading import LoadedSpec

_AT_ONCE = 4  # so that batches are made, which may change answers too
_MAX = 500
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Quality:
    """Requests, and what is right in the answer to each."""

    spec: QualitySpec
    bodies: tuple[Body, ...]
    right: tuple[Any, ...]

    def check(self, url: str, source: RequestSource, alive: Callable[[], None]) -> float:
        """The share of good answers, 0 to 1. Raises Infeasible if it is too small, and whatever `alive` raises."""
        answers = ask(url, source, self.spec.answer, self.bodies, alive)
        good = sum(close(given, right, self.spec.tolerance) for given, right in zip(answers, self.right, strict=True))
        share = good / len(self.bodies)
        if share < self.spec.at_least:
            like = "right" if self.spec.reference is None else "as the reference's"
            raise Infeasible(
                f"quality: {share:.1%} of {len(self.bodies)} answers are {like}, of {self.spec.at_least:.1%} asked for"
            )
        return share


def make_quality(
    loaded: LoadedSpec, source: RequestSource, runner: Runner, folder: Path, cache: Path, *, fresh: bool = False
) -> Quality | None:
    """The spec's guard, or None. Launches its reference, unless `folder` has its answers from an earlier run (and
    `fresh` is not asked for: the model may be another one since).

    Raises SpecError for a data set that is none, UnfitEnvironmentError where the reference does not serve.
    """
    spec = loaded.spec.quality
    if spec is None:
        return None
    if spec.dataset is not None:
        return _labelled(loaded, spec, loaded.folder / spec.dataset)
    known = folder / "answers.json"
    try:
        return _reference(loaded, source, runner, folder, known, cache, fresh=fresh)
    except (Infeasible, ServerFailed) as error:
        raise UnfitEnvironmentError(
            f"the reference configuration (quality.reference) does not serve: {foreign(str(error))}"
        ) from error


def check_quality(loaded: LoadedSpec) -> None:
    """Raises SpecError for a data set that is none; a reference is launched later."""
    spec = loaded.spec.quality
    if spec is not None and spec.dataset is not None:
        _labelled(loaded, spec, loaded.folder / spec.dataset)


def close(given: Any, right: Any, tolerance: float) -> bool:
    """Equal, or numbers that differ by at most `tolerance` of the right one (or of 1, where that is less)."""
    if isinstance(given, list) and len(given) == 1 and not isinstance(right, list):
        given = given[0]
    if isinstance(given, list) and isinstance(right, list):
        return len(given) == len(right) and all(close(a, b, tolerance) for a, b in zip(given, right, strict=True))
    numbers = isinstance(given, int | float) and isinstance(right, int | float)
    if numbers and not isinstance(given, bool) and not isinstance(right, bool):
        return math.isfinite(given) and abs(given - right) <= tolerance * max(1.0, abs(right))
    return given is not None and bool(given == right)


def ask(url: str, source: RequestSource, answer: str, bodies: Sequence[Body], alive: Callable[[], None]) -> list[Any]:
    """What the JSON path finds in each answer; None where it finds nothing, or the request failed."""
    path = JSONPathEnvironment().compile(answer)
    verify = trust(Tls(source.plan.verify_tls, source.plan.ca_file) if source.tls else None)
    others = {name: value for name, value in source.headers.items() if name.lower() != "content-type"}
    with (
        bounded_client(url, timeout_s=_TIMEOUT_S, verify=verify) as client,
        ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="quality") as pool,
    ):

        def one(body: Body) -> Any:
            alive()
            headers = source.headers if body.content_type is None else others | {"Content-Type": body.content_type}
            try:
                found = client.request(source.method, source.path, headers=encoded(headers), content=body.content)
                node = path.find_one(found.json()) if found.is_success else None
            except (httpx.HTTPError, ValueError, RecursionError):
                return None
            return None if node is None else node.value

        return list(pool.map(one, bodies))


def _labelled(loaded: LoadedSpec, spec: QualitySpec, path: Path) -> Quality:
    key = ("quality", "dataset")
    try:
        lines = read_text(path).split("\n")  # JSON's texts may hold what else ends a line elsewhere (U+2028)
    except InputError as error:
        raise loaded.error(key, str(error)) from error
    bodies, labels = [], []
    says = any(name.lower() == "content-type" for name in loaded.spec.request.headers)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            content = parsed_json(path, line, number)
            bodies.append(Body(json.dumps(content["request"]).encode(), None if says else "application/json"))
            labels.append(content["label"])
        except (ValueError, KeyError, TypeError) as error:
            raise loaded.error(key, f'{shown(path)}:{number} is not {{"request": ..., "label": ...}}') from error
    if not bodies:
        raise loaded.error(key, f"{shown(path)} is empty")
    return Quality(spec, tuple(bodies[:_MAX]), tuple(labels[:_MAX]))


def _reference(
    loaded: LoadedSpec,
    source: RequestSource,
    runner: Runner,
    folder: Path,
    known: Path,
    cache: Path,
    *,
    fresh: bool,
) -> Quality:
    """The answers of the reference, on a launch of its own."""
    spec = loaded.spec.quality
    assert spec is not None and spec.reference is not None  # noqa: S101, PT018 (the caller has asked)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # answers may hold what is nobody else's
    folder.mkdir(parents=True, exist_ok=True)
    complete = [source]

    def reconfigured(url: str, container: Container) -> SampleRequest | None:
        at: ServerAddress = reach(url, container.placement)
        complete[0], sample = prepare(loaded, spec.reference or {}, source, at, container)
        return sample

    if source.described and not fresh and (found := _read(known, spec, _bodies(loaded, source))) is not None:
        return found
    launch = TrialLaunch(loaded.spec.service.name, 0, folder, cache, fresh=True)
    container = render(loaded, spec.reference, runner.place(folder), source, launch, prepare=reconfigured)
    with runner.launch(container) as endpoint:
        bodies = _bodies(loaded, complete[0])
        answers = ask(endpoint.url, complete[0], spec.answer, bodies, endpoint.check)
    if any(one is None for one in answers):
        raise ServerFailed(f"its answers have nothing at {spec.answer}")
    kept = masked_values(_asked(spec, bodies) | {"answers": answers})
    known.write_text(json.dumps(kept) + "\n", encoding="utf-8")
    return Quality(spec, bodies, tuple(answers))


def _bodies(loaded: LoadedSpec, source: RequestSource) -> tuple[Body, ...]:
    """The load test's own requests, at most 500 of them."""
    try:
        return tuple(read_bodies(source.plan)[:_MAX])
    except PlanError as error:
        raise loaded.error(("request",), str(error)) from error


def _asked(spec: QualitySpec, bodies: tuple[Body, ...]) -> dict[str, Any]:
    """What identifies the reference's answers: its configuration, the requests, and which part of each answer is
    kept.
    """
    requests = [one.content.decode(errors="replace") for one in bodies]
    return {"reference": dict(spec.reference or {}), "answer": spec.answer, "requests": requests}


def _read(path: Path, spec: QualitySpec, bodies: tuple[Body, ...]) -> Quality | None:
    """The answers that an earlier run stored; None if they are to other questions, or there are none."""
    try:
        content = read_json(path)
    except InputError:
        return None
    asked = _asked(spec, bodies)
    answers = content.get("answers") if isinstance(content, dict) else None
    if not isinstance(answers, list) or len(answers) != len(bodies):
        return None
    if {key: content.get(key) for key in asked} != masked_values(asked):
        return None
    return Quality(spec, bodies, tuple(answers))
