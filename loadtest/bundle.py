"""A plan with all the files that it names, as bytes: for `python -m loadtest --bundle` on another machine."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from loadtest.plan import Auth, LoadPlan
from loadtest.request_check import PlanError

_PLAN = "plan.json"


def pack(plan: LoadPlan) -> bytes:
    """A compressed archive. Raises PlanError for a file that cannot be read."""
    packed: dict[str, Path] = {}

    def moved(path: str | None) -> str | None:
        if path is None:
            return None
        source = Path(path)
        name = f"{len(packed)}/{source.name}"
        packed[name] = source
        return name

    request = plan.request
    forms = request.multipart and {
        key: field.model_copy(update={"file": moved(field.file)}) for key, field in request.multipart.items()
    }
    there = plan.model_copy(
        update={
            "request": request.model_copy(
                update={
                    "dataset": moved(request.dataset), "file": moved(request.file), "multipart": forms,
                    "ca_file": moved(request.ca_file),
                }
            ),
            "trace": moved(plan.trace),
            "locustfile": moved(plan.locustfile),
            "cores": (),
        }
    )  # fmt: skip
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
        plan = LoadPlan.model_validate_json((target / _PLAN).read_text(encoding="utf-8"))
    except (OSError, EOFError, zipfile.BadZipFile, ValueError) as error:
        raise PlanError(f"{pieces} holds no bundle: {error}") from error

    def here(name: str | None) -> str | None:
        return None if name is None else str(target / name)

    request = plan.request
    forms = request.multipart and {
        key: field.model_copy(update={"file": here(field.file)}) for key, field in request.multipart.items()
    }
    own = request.model_copy(
        update={
            "dataset": here(request.dataset), "file": here(request.file), "multipart": forms,
            "ca_file": here(request.ca_file),
        }
    )  # fmt: skip
    return plan.model_copy(
        update={"request": own, "trace": here(plan.trace), "locustfile": here(plan.locustfile)}
    ).model_dump_json()


def variables(auth: Auth | None) -> tuple[str, ...]:
    """The names of the environment variables that hold the secrets."""
    if auth is None:
        return ()
    return tuple(name for name in (auth.bearer, auth.user, auth.password, auth.env) if name is not None)
