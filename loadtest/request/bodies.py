"""What requests carry: the bodies that a plan's `request` names, read and encoded once. Raises PlanError."""

from __future__ import annotations

import codecs
import json
import mimetypes
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any, TypeVar

from loadtest.request.prompts import Prompts
from loadtest.request.request_check import PlanError
from loadtest.request_plan import FormField, RequestPlan
from search_spaces.reading import InputError, is_folder, read_bytes, shown

T = TypeVar("T")
_MAX_BYTES = 1 << 30  # they are held in memory, so that reading them costs the generator nothing
_TOO_MUCH = f"more than {_MAX_BYTES >> 30} GiB of request bodies; use fewer"
_SEED_STEP = 1_000_003  # between the parts of a load
_UNKNOWN = "application/octet-stream"


@dataclass(frozen=True)
class Body:
    """`content_type` is None where the plan's headers say it."""

    content: bytes
    content_type: str | None = None


def read_bodies(request: RequestPlan) -> list[Body]:
    """The bodies that requests draw from; one empty one for a request without."""
    if request.llm is not None:
        return [Body(Prompts(request.llm, 0, "sample").take().body, "application/json")]
    if request.multipart:
        return list(_limited(_forms(request.multipart), "the multipart bodies"))
    if request.file is not None:
        return list(_limited(_files(Path(request.file)), request.file))
    if request.dataset is None:
        return [Body(b"" if request.body is None else _encoded(request.body))]
    path = Path(request.dataset)
    bodies = _files(path) if is_folder(path) else _lines(path)
    return list(_limited(bodies, request.dataset))


def read_others(request: RequestPlan) -> list[list[Body]]:
    """The bodies of each of the other requests, in their order."""
    found = []
    for one in request.others:
        own = request.model_copy(update={"body": one.body, "dataset": one.dataset, "file": None, "others": ()})
        # The type of the request's own bodies, which are files perhaps, is not that of these.
        found.append([Body(body.content, body.content_type or "application/json") for body in read_bodies(own)])
    return found


def _lines(path: Path) -> Iterator[Body]:
    """A line of JSON per body."""
    found = False
    # A byte order mark, which Windows' editors write, is no JSON to a server.
    for number, line in enumerate(_read(path).removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            json.loads(line, parse_constant=_refuse)
        except RecursionError as error:
            raise PlanError(f"{shown(path)}:{number} is nested too deeply") from error
        except _NoJsonError as error:
            raise PlanError(f"{shown(path)}:{number} holds {error}, which JSON has no word for") from error
        except ValueError as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "it is not UTF-8"
            raise PlanError(f"{shown(path)}:{number} is not JSON: {reason}") from error
        found = True
        yield Body(line.strip())
    if not found:
        raise PlanError(f"the data set {shown(path)} is empty; it needs a line of JSON per request body")


class _NoJsonError(ValueError):
    """`NaN` or `Infinity`, which Python alone reads."""


def _refuse(constant: str) -> None:
    raise _NoJsonError(constant)


def _files(path: Path) -> Iterator[Body]:
    """The file, or every file in the folder (not in folders below it), with the type that its name suggests."""
    if not is_folder(path):
        yield Body(_read(path), _type(path))
        return
    files = _inside(path)
    if not files:
        raise PlanError(f"the folder {shown(path)} has no files; each file is one request body")
    for one in files:
        yield Body(_read(one), _type(one))


def _forms(fields: dict[str, FormField]) -> Iterator[Body]:
    """Every combination of the files that the fields name, as multipart/form-data."""
    import httpx  # only here: it takes a tenth of a second to import

    texts = {name: field.text for name, field in fields.items() if field.text is not None}
    names = [name for name, field in fields.items() if field.file is not None]
    choices = [list(_form_files(fields[name])) for name in names]
    for chosen in product(*choices):
        # A field without a file makes it multipart even when all of them are texts.
        files: dict[str, Any] = dict(zip(names, chosen, strict=True))
        files = files or {name: (None, text) for name, text in texts.items()}
        request = httpx.Request("POST", "http://x", data=texts if names else None, files=files)
        yield Body(request.read(), request.headers["content-type"])


def _form_files(field: FormField) -> Iterator[tuple[str, bytes, str]]:
    path = Path(field.file or "")
    paths = _inside(path) if is_folder(path) else [path]
    if not paths:
        raise PlanError(f"the folder {shown(path)} has no files; each file is one part")
    for one in paths:
        yield one.name, _read(one), field.type or _type(one)


def _limited(bodies: Iterator[Body], where: str) -> Iterator[Body]:
    total = 0
    for body in bodies:
        total += len(body.content)
        if total > _MAX_BYTES:
            raise PlanError(f"{where}: {_TOO_MUCH}")
        yield body


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise PlanError("request.body: holds half of a surrogate pair, which is no character") from error


def _inside(path: Path) -> list[Path]:
    """The folder's files, without hidden ones, which tools leave there (`.DS_Store`, `.gitkeep`): not one of them is
    read where they are too many for memory.
    """
    try:
        found = sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
        size = sum(one.stat().st_size for one in found)
    except OSError as error:
        raise PlanError(f"cannot read the folder {shown(path)}: {error.strerror}") from error
    if size > _MAX_BYTES:
        raise PlanError(f"{shown(path)}: {_TOO_MUCH}")
    return found


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, _MAX_BYTES)
    except InputError as error:
        raise PlanError(str(error)) from error


def _type(path: Path) -> str:
    return mimetypes.guess_type(path.name)[0] or _UNKNOWN


@dataclass(frozen=True)
class Share:
    """Which of the generators that load one server this is, `part` of `parts`: each draws by a seed of its own, and of
    a sequence it takes every so many-th, as it does of the arrivals.
    """

    part: int = 0
    parts: int = 1

    def seed(self, seed: int) -> int:
        """That of this part's requests: with the same one, all would send the same bodies at the same time."""
        return seed + _SEED_STEP * self.part


ALL = Share()


def in_turn(messages: Sequence[T], request: RequestPlan, seed: int, share: Share = ALL) -> Callable[[], T]:
    """Says which message a request takes: the next one, or one that is drawn."""
    if len(messages) == 1 or request.order == "sequential":
        return islice(cycle(messages), share.part, None, share.parts).__next__
    choose = random.Random(seed).choice  # noqa: S311 (not for secrets)
    return lambda: choose(messages)


def by_share(
    first: Callable[[], T], others: Sequence[Callable[[], T]], shares: Sequence[float], seed: int
) -> Callable[[], T]:
    """Says which request an arrival is: each of the others with the probability of its share."""
    if not others:
        return first
    every, weights = [first, *others], [1 - sum(shares), *shares]
    choose = random.Random(seed + 1).choices  # noqa: S311 (not for secrets)

    def message() -> T:
        return choose(every, weights)[0]()

    return message
