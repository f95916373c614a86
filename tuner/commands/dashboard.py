"""`tune dashboard`: a web page over studies, finished and running."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib.util
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from results import ResultsError, StudySummary, TrialEvidence
from results.exports import Deployable, exported, offered
from results.text import visible
from search_spaces.masking import remember
from tuner.commands.options.stored import open_archive
from tuner.display.live_file import read_live
from tuner.errors import (
    ExitCode,
    TuneError,
    UnfitEnvironmentError,
    UsageError,
    needing_packages,
    with_extra,
    with_options,
)
from tuner.outcome.deployable import deployables
from tuner.outcome.summary import last_served, summarise
from tuner.study.storage.archive import Archive, study_names

if TYPE_CHECKING:
    from results.dashboard import Gate

T = TypeVar("T")
_MIN_TOKEN = 6
_LOCAL = ("127.0.0.1", "localhost", "::1")
_THREADS = 8
_COLLECT_AFTER = (50_000, 20, 20)  # new objects, and rounds of younger ones
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # localhost is ::1, too, where there is no IPv6


@dataclass(frozen=True)
class DashboardOptions:
    """The command line of the dashboard."""

    folders: tuple[Path, ...] = ()
    storage: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    optuna: bool = False


class Studies:
    """The studies that the dashboard shows, each by a name of its own. For several threads."""

    def __init__(self, archives: Mapping[str, Archive], raw: str | None) -> None:
        self._archives, self._raw = dict(archives), raw
        self._runs: dict[str, str] = {}
        self._lock = threading.Lock()
        self._read: dict[str, tuple[str, StudySummary]] = {}

    def names(self) -> tuple[str, ...]:
        """The studies' names, in the order of the command line."""
        return tuple(self._archives)

    def version(self, name: str) -> str:
        """Changes with every trial that begins or ends."""
        return self._safely(name, lambda archive: " ".join(archive.version()))

    def summary(self, name: str) -> StudySummary:
        """The study summed up, once per version of it."""

        def read(archive: Archive) -> StudySummary:
            version = " ".join(archive.version())
            if self._read.get(name, ("", None))[0] != version:
                self._read[name] = (version, summarise(archive.loaded, archive))
            return self._read[name][1]

        return self._safely(name, read)

    def evidence(self, name: str, number: int) -> TrialEvidence:
        """What one trial's figures rest on."""
        launch = last_served(self.summary(name).launches.confirmations.get(number, ()))
        return self._safely(name, lambda archive: archive.evidence(number, launch))

    def running(self, name: str) -> Sequence[Mapping[str, Any]]:
        """The trials under way in the run's own folder. Those of workers elsewhere, in a shared database, are not
        known.
        """
        from sqlalchemy import make_url

        url = self._archives[name].url if name in self._archives else ""
        return read_live(Path(make_url(url).database or "").parent) if url.startswith("sqlite:///") else []

    def formats(self, name: str) -> tuple[str, ...]:
        """The formats of an export; none without a recommendation."""
        try:
            return offered(self._deployables(name, None))
        except ResultsError:
            return ()

    def export(self, name: str, format_name: str, qps: float | None) -> Mapping[str, str]:
        """The files that `tune export` writes."""
        return exported(self._deployables(name, qps, format_name), format_name)

    def _deployables(self, name: str, qps: float | None, format_name: str = "kubernetes") -> Mapping[str, Deployable]:
        study = self.summary(name)
        return self._safely(name, lambda archive: deployables(study, archive.loaded, qps, format_name=format_name))

    def raw(self, name: str) -> str | None:  # noqa: ARG002 (one storage for all)
        """Optuna's own dashboard."""
        return self._raw

    def _safely(self, name: str, read: Callable[[Archive], T]) -> T:
        if name not in self._archives:
            raise ResultsError(f"there is no study named {name}")
        try:
            with self._lock:
                self._follow(name)
                return read(self._archives[name])
        except TuneError as error:
            raise ResultsError(str(error)) from error

    def _follow(self, name: str) -> None:
        """Show a new run that has taken the place of the one that was shown."""
        archive = self._archives[name]
        _, run = archive.version()
        if self._runs.setdefault(name, run) != run:
            self._archives[name], self._runs[name] = Archive(archive.url, archive.name), run


def dashboard(options: DashboardOptions) -> ExitCode:
    """Serves until it is interrupted. Raises UsageError, UnfitEnvironmentError."""
    if options.token is not None and len(options.token.strip()) < _MIN_TOKEN:
        raise UsageError(
            f"the token is blank, or shorter than {_MIN_TOKEN} letters, which anybody could guess\n"
            "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe(16))', in TUNE_DASHBOARD_TOKEN or "
            "--token."
        )
    if options.host not in _LOCAL and not options.token:
        raise UsageError(
            f"--host {options.host} lets others read the results, so it needs a token that they must give\n"
            "Set TUNE_DASHBOARD_TOKEN in the environment (or --token, which other users of this machine can see)."
        )
    archives = _archives(options)
    with needing_packages("the dashboard"):
        from results.dashboard import Gate, make_app

    remember(options.token)
    gate = Gate(options.token)
    listening = _bound(options.host, options.port)
    port = listening[0].getsockname()[1]
    raw = _raw_link(options, archives, gate, port)
    studies = Studies(archives, raw)
    _keep_collections_rare()
    threading.Thread(target=_look_ahead, args=(studies,), daemon=True).start()
    server = _server(make_app(studies, options.token, gate), listening)
    hint = "?token=..." if options.token else ""
    click.echo(f"{', '.join(archives)}: {_address(options.host, port)}{hint}  (Ctrl-C ends it)")
    if options.optuna:
        click.echo(f"Optuna's own dashboard: {raw}{hint}")
    try:
        server.run()
    finally:
        server.close()
    return ExitCode.DONE


def _keep_collections_rare() -> None:
    """Make the garbage collector run rarely. What is loaded now stays, and so do a study's records. With the usual
    thresholds the collector would walk all of them dozens of times while 10,000 trials are read, and take a third of
    that time.
    """
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def _look_ahead(studies: Studies) -> None:
    """Sum up the study that is shown first before anybody asks for it. The page itself says what is wrong with it."""
    with contextlib.suppress(ResultsError):
        studies.summary(studies.names()[0])


def _archives(options: DashboardOptions) -> dict[str, Archive]:
    found: dict[str, Archive] = {}
    folders = options.folders or (() if options.storage else tuple(_runs_here()))
    for folder in folders:
        with contextlib.nullcontext() if options.folders else _skipped():
            archive = open_archive(folder, None, None)
            found[archive.name if archive.name not in found else f"{archive.name} ({folder})"] = archive
    for name in study_names(options.storage) if options.storage else ():
        with _skipped():
            found[name if name not in found else f"{name} (--storage)"] = Archive(options.storage or "", name)
    if not found:
        raise UsageError("no study here: name the folder of a run, or --storage where studies lie")
    return found


@contextlib.contextmanager
def _skipped() -> Iterator[None]:
    """A note on a study that the user did not name, and that cannot be shown: the others are shown all the same."""
    try:
        yield
    except TuneError as error:
        click.echo(f"left out: {visible(with_options(str(error)))}", err=True)


def _runs_here() -> Iterable[Path]:
    """The default places of runs, the newest first."""
    found = [path.parent for path in Path("tuning").glob("*/study.db")]
    return sorted(found, key=lambda folder: (folder / "study.db").stat().st_mtime, reverse=True)


def _raw_link(options: DashboardOptions, archives: Mapping[str, Archive], gate: Gate, port: int) -> str | None:
    """Serve Optuna's own dashboard beside ours, which has that port, for reading alone, or say how."""
    url = options.storage or next(iter(archives.values())).url
    if not options.optuna:
        return "--optuna shows the raw study in Optuna's own dashboard, too."
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise UnfitEnvironmentError(f"--optuna needs Optuna's dashboard: {with_extra('optuna-dashboard')}")
    from tuner.study.optuna_dashboard import raw_study_app

    listening = _next_to(options.host, port)
    server = _server(raw_study_app(url, gate), listening)
    threading.Thread(target=server.run, daemon=True).start()
    return _address(options.host, listening[0].getsockname()[1])


def _address(host: str, port: int) -> str:
    shown = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"


def _server(app: Any, listening: list[socket.socket]) -> Any:
    with needing_packages("the dashboard"):
        import waitress

    return waitress.create_server(app, sockets=listening, threads=_THREADS, ident=None)


def _next_to(host: str, port: int) -> list[socket.socket]:
    """The port after that one, or any that is free where somebody has it."""
    try:
        return _bound(host, port + 1)
    except UnfitEnvironmentError:
        return _bound(host, 0)


def _bound(host: str, port: int) -> list[socket.socket]:
    """Listens on every address of that host; port 0 is one that is free. Raises UnfitEnvironmentError."""
    found: list[socket.socket] = []
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for number, (family, _, _, _, place) in enumerate(places, start=1):
            free = found[0].getsockname()[1] if found else port
            try:
                found.append(socket.create_server((str(place[0]), free), family=family))
            except OSError as error:
                if error.errno not in _NO_SUCH_ADDRESS or (number == len(places) and not found):
                    raise
    except (OSError, OverflowError, ValueError) as error:
        for one in found:
            one.close()
        code = error.errno if isinstance(error, OSError) else None
        why = os.strerror(code) if code is not None and code > 0 else str(error)
        raise UnfitEnvironmentError(f"cannot listen on {host}:{port}: {why}; --port names another port") from error
    return found
