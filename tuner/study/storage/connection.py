"""The connection to a study's storage: its URL, its driver, and its errors in words for users."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search_spaces.masking import harmless_url, remember_url
from tuner.errors import UnfitEnvironmentError, UsageError, with_extra


def sqlite_url(folder: Path) -> str:
    """The default storage of a study: a file in its output folder."""
    from sqlalchemy import URL

    # From 2.1 on SQLAlchemy decodes a path within a URL, and before it does not: each writes what it reads itself.
    return URL.create("sqlite", database=str((folder / "study.db").resolve())).render_as_string(hide_password=False)


def with_driver(url: str) -> str:
    """Which driver `postgresql://` means depends on SQLAlchemy's version; ours is psycopg 3. From here on the URL's
    password is masked. Raises UsageError for a database in memory, which every look at it would find empty.
    """
    remember_url(url)
    if url.startswith("sqlite:") and (":memory:" in url or not url.partition("//")[2].strip("/")):
        raise UsageError("`storage` in memory keeps nothing; name a file, such as sqlite:///study.db")
    return url.replace("postgresql://", "postgresql+psycopg://", 1) if url.startswith("postgresql://") else url


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Map what a database says to our error. Its own message may repeat the URL's password, so its kind is shown.
    A damaged SQLite file may hold text that is none.
    """
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, ImportError, UnicodeDecodeError) as error:
        raise unreachable(url, error) from error


@contextmanager
def reaching_study(url: str) -> Iterator[None]:
    """Map what Optuna says of a study's database to our error, as `reaching` does of the database itself."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Heartbeats are marked as experimental, and as made for another loop than ours.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", message="Heartbeat of storage")
    try:
        with reaching(url):
            yield
    except optuna.exceptions.StorageInternalError as error:
        raise unreachable(url, error) from error


def unreachable(url: str, error: BaseException) -> UnfitEnvironmentError:
    """What to tell a user whose storage cannot be used."""
    shown = harmless_url(url) if "://" in url else "that `storage` names (such as sqlite:///study.db)"
    cause = error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    if "unable to open database file" in str(cause):
        return UnfitEnvironmentError(
            f"cannot use the storage {shown}: {cause}\n"
            "Is that its name? A run with that `storage` makes the file, in a folder that is there."
        )
    if url.startswith("sqlite"):
        return UnfitEnvironmentError(
            f"cannot use the storage {shown}: {cause}\n"
            "What was stored before is kept; make room or mend it, then `resume` goes on."
        )
    if isinstance(cause, ModuleNotFoundError):
        return UnfitEnvironmentError(
            f"cannot use the storage {shown}: its driver {cause.name} is not installed\n"
            f"For PostgreSQL: {with_extra('postgresql')}."
        )
    return UnfitEnvironmentError(
        f"cannot use the storage {shown} ({type(cause).__name__})\n"
        "Check that the database runs, that the user may log in, and that the URL is right."
    )
