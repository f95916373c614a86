"""A plan with all the files that it names, as bytes: for `python -m loadtest --bundle` on another machine."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

from loadtest.plan import JointPlan, LoadPlan, read_plan
from loadtest.request.request_check import PlanError
from loadtest.request_plan import Auth

_PLAN = "plan.json"


def pack(plan: LoadPlan | JointPlan) -> bytes:
    """A compressed archive. Raises PlanError for a file that cannot be read."""
    packed: dict[str, Path] = {}

    def moved(path: str) -> str:
        source = Path(path)
        name = f"{len(packed)}/{source.name}"
        packed[name] = source
        return name

    there = _with_paths(plan, moved).model_copy(update={"cores": ()})
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_PLAN, there.model_dump_json())
        for name, source in packed.items():
            try:
                for one in sorted(source.iterdir()) if source.is_dir() else [source]:
                    if one.is_file():
                        archive.write(one, f"{name}/{one.name}" if source.is_dir() else name)
            except OSError as error:
                raise PlanError(f"cannot read {source}: {error.strerror}") from error
    return target.getvalue()


def unpack(pieces: Path, target: Path) -> str:
    """Extract into an empty folder what lies in pieces in another; returns the plan as JSON, with paths that hold here.

    Raises PlanError for what is no bundle.
    """
    try:
        files = sorted(one for one in pieces.iterdir() if one.is_file() and not one.name.startswith("."))
        content = b"".join(one.read_bytes() for one in files)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            archive.extractall(target)  # which lets no name lead out of the folder
        plan = read_plan((target / _PLAN).read_text(encoding="utf-8"))
    except (OSError, EOFError, zipfile.BadZipFile, ValueError) as error:
        raise PlanError(f"{pieces} holds no bundle: {error}") from error
    return _with_paths(plan, lambda name: str(target / name)).model_dump_json()


def _with_paths(plan: LoadPlan | JointPlan, change: Callable[[str], str]) -> LoadPlan | JointPlan:
    """The plan with every path in it changed."""
    if isinstance(plan, LoadPlan):
        return _changed(plan, change)
    targets = tuple(one.model_copy(update={"plan": _changed(one.plan, change)}) for one in plan.targets)
    background = tuple(one.model_copy(update={"plan": _changed(one.plan, change)}) for one in plan.background)
    return plan.model_copy(update={"targets": targets, "background": background})


def _changed(plan: LoadPlan, change: Callable[[str], str]) -> LoadPlan:
    def changed(path: str | None) -> str | None:
        return None if path is None else change(path)

    request = plan.request
    forms = request.multipart and {
        key: field.model_copy(update={"file": changed(field.file)}) for key, field in request.multipart.items()
    }
    files = {"dataset": changed(request.dataset), "file": changed(request.file), "ca_file": changed(request.ca_file)}
    llm = request.llm and request.llm.model_copy(
        update={"tokenizer": changed(request.llm.tokenizer), "sizes": changed(request.llm.sizes)}
    )
    others = tuple(one.model_copy(update={"dataset": changed(one.dataset)}) for one in request.others)
    own = request.model_copy(update=files | {"multipart": forms, "llm": llm, "others": others})
    stages = tuple(one.model_copy(update={"plan": _changed(one.plan, change)}) for one in plan.stages)
    return plan.model_copy(
        update={
            "request": own, "trace": changed(plan.trace), "locustfile": changed(plan.locustfile), "stages": stages,
        }
    )  # fmt: skip


def variables(auth: Auth | None) -> tuple[str, ...]:
    """The names of the environment variables that hold the secrets."""
    if auth is None:
        return ()
    return tuple(name for name in (auth.bearer, auth.user, auth.password, auth.env) if name is not None)
