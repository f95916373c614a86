"""A stored study, read as it grows.

Optuna's own reading takes four seconds for 10,000 trials, and again whenever one was added: its tables are read here
with plain SQL, only what is new, and what a trial's figures rest on only when it is asked for. Nothing is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from results import Explanation, TrialEvidence, TrialRecord
from results.stored import StoredError, parse_json, stored_json
from results.text import visible
from tuner.errors import SpecError, UnfitEnvironmentError, UsageError
from tuner.spec.reading import LoadedSpec, check_content
from tuner.spec.yaml_file import YamlFile
from tuner.study.outlook import Outlook
from tuner.study.plan import StudyPlan
from tuner.study.storage.connection import reaching, with_driver
from tuner.study.storage.damage import (
    damaged,
    known_confirmations,
    known_end,
    known_ended,
    known_explanation,
    known_outlook,
    known_plan,
)
from tuner.study.storage.keys import (
    CONFIRMATION_EVIDENCE,
    EVIDENCE,
    EXPLANATION,
    OUTLOOK,
    PLAN,
    PROVENANCE,
    RECORD,
    STOPPED,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_STUDIES = "SELECT study_name, study_id FROM studies ORDER BY study_id"
_ATTRIBUTES = "SELECT key, value_json FROM study_user_attributes WHERE study_id = :study AND key NOT LIKE :large"
_ATTRIBUTE = "SELECT value_json FROM study_user_attributes WHERE study_id = :study AND key = :key"
_RECORDS = """
    SELECT a.trial_user_attribute_id, a.value_json, t.number FROM trial_user_attributes a
    JOIN trials t ON t.trial_id = a.trial_id
    WHERE t.study_id = :study AND t.state NOT IN ('RUNNING', 'WAITING') AND a.key = :key
    AND a.trial_user_attribute_id > :after ORDER BY a.trial_user_attribute_id
"""
_UNSEEN = """
    SELECT min(a.trial_user_attribute_id) FROM trial_user_attributes a JOIN trials t ON t.trial_id = a.trial_id
    WHERE t.study_id = :study AND t.state IN ('RUNNING', 'WAITING') AND a.key = :key
"""
_LATEST = """
    SELECT value_json FROM study_user_attributes WHERE study_id = :study AND (key = :name OR key LIKE :further)
    ORDER BY length(key) DESC, key DESC LIMIT 1
"""
_TRIAL_ATTRIBUTE = """
    SELECT a.value_json FROM trial_user_attributes a JOIN trials t ON t.trial_id = a.trial_id
    WHERE t.study_id = :study AND t.number = :number AND a.key = :key
"""
_RUNNING = "SELECT count(*) FROM trials WHERE study_id = :study AND state = 'RUNNING'"
_VERSION = """
    SELECT count(*), sum(CASE WHEN state = 'RUNNING' THEN 1 ELSE 0 END), max(datetime_complete),
    (SELECT count(*) FROM study_user_attributes WHERE study_id = :study) FROM trials WHERE study_id = :study
"""
_REWRITTEN = (OUTLOOK, EXPLANATION, STOPPED)  # attributes that may change while none is added
_SCHEMA = 12  # the version of the tables that these statements read
_NO_PATH = "spec of the stored study"
_LAST = "SELECT max(datetime_complete) FROM trials WHERE study_id = :study"


@dataclass(frozen=True)
class Snapshot:
    """A study at one moment. `ended` is when the last launch was over, an ISO time (in UTC, or of an unknown zone).
    `damaged` says what of it cannot be read, with its field, and was left out.
    """

    records: tuple[TrialRecord, ...]
    confirmations: Mapping[int, tuple[TrialRecord, ...]]
    outlook: Outlook
    provenance: Mapping[str, str]
    explanation: Explanation | None
    stopped: str | None
    budget: int | None
    running: int
    ended: str | None
    damaged: tuple[str, ...] = ()


class Archive:
    """One study of a storage. Not for several threads at once."""

    def __init__(self, url: str, name: str | None = None) -> None:
        """`name` may be left out where the storage holds just one study.

        Raises UsageError when there is no such study of ours, UnfitEnvironmentError when the storage cannot be reached.
        """
        self.url = url
        studies = study_names(url)
        if name is None and len(studies) != 1:
            raise UsageError(
                f"the storage holds {len(studies)} studies; name one of them: {', '.join(studies)}"
                if studies
                else "the storage holds no study"
            )
        if name is not None and name not in studies:
            raise UsageError(f"the storage holds no study named {name}; there are {', '.join(studies) or 'none'}")
        self.name = name or next(iter(studies))
        self._study = studies[self.name]
        self._seen = 0
        self._records: dict[int, TrialRecord] = {}
        self._damaged: dict[int, str] = {}
        known = self._plan()
        if known is None:
            raise UsageError(f"the study {self.name} was not made by tune: it holds no spec")
        path = known.provenance.get("spec", "")
        self._content, self._spec_path = known.content, path if path.isprintable() and path else _NO_PATH

    @cached_property
    def loaded(self) -> LoadedSpec:
        """The spec as it was when the study began."""
        # Files that the spec names lie beside it.
        try:
            return check_content(YamlFile(Path(self._spec_path)), dict(self._content))
        except SpecError as error:
            raise damaged(self.name, f"its spec is not one of this version: {error}") from error

    def snapshot(self) -> Snapshot:
        """The study as it is now. Raises UnfitEnvironmentError if the storage is lost."""
        with reaching(self.url), _engine(self.url).connect() as connection:
            self._read_new(connection)
            problems: list[str] = []
            found = dict(self._attributes(connection, problems))
            running = int(_scalar(connection, _RUNNING, study=self._study) or 0)
            last = _scalar(connection, _LAST, study=self._study)
        plan = self._known_plan(found)
        confirmations = known_confirmations(found, problems)
        explanation, stopped = known_explanation(found, problems), known_end(found, problems)
        origin: Mapping[str, str] = {} if plan is None else plan.provenance
        return Snapshot(
            records=tuple(self._records[number] for number in sorted(self._records)),
            confirmations=confirmations,
            outlook=known_outlook(found, problems),
            provenance=origin,
            explanation=explanation,
            stopped=stopped,
            budget=None if plan is None else plan.budget,
            running=running,
            ended=known_ended(found, last, origin.get("optuna", "")),
            damaged=(*(self._damaged[key] for key in sorted(self._damaged)), *problems),
        )

    def version(self) -> tuple[str, str]:
        """Two short values to compare with those of an earlier call. The first one changes whenever a snapshot would;
        the second when another run has put its study here. Raises UnfitEnvironmentError.
        """
        with reaching(self.url), _engine(self.url).connect() as connection:
            row = connection.execute(_text(_VERSION), {"study": self._study}).one()
            kept, run = (
                [_scalar(connection, _ATTRIBUTE, study=self._study, key=key) for key in keys]
                for keys in (_REWRITTEN, (PLAN, PROVENANCE))
            )
        return _digest(*row, *kept), _digest(*run)

    def evidence(self, number: int, launch: int | None = None) -> TrialEvidence:
        """What a launch of a trial rests on: 0 is its own, 1 the first further one, None the latest."""
        with reaching(self.url), _engine(self.url).connect() as connection:
            keys = {"study": self._study, "name": f"{CONFIRMATION_EVIDENCE}{number}"}
            text = None
            if launch is None:
                text = connection.execute(_text(_LATEST), {**keys, "further": f"{keys['name']}:%"}).scalar()
            elif launch:
                key = confirmation_key(CONFIRMATION_EVIDENCE, number, launch)
                text = _scalar(connection, _ATTRIBUTE, study=self._study, key=key)
            if text is None:
                text = _scalar(connection, _TRIAL_ATTRIBUTE, study=self._study, key=EVIDENCE, number=number)
        try:
            return TrialEvidence() if text is None else stored_json(TrialEvidence, text)
        except StoredError:
            return TrialEvidence()  # it is shown beside the figures, which stand in the record

    def _read_new(self, connection: Connection) -> None:
        """Read what was added. A record is stored a moment before its trial is over, so open trials are read again."""
        asked = {"study": self._study, "key": RECORD}
        for place, value, number in connection.execute(_text(_RECORDS), {**asked, "after": self._seen}):
            try:
                record = stored_json(TrialRecord, value)
                if record.number != number or number in self._records:
                    raise StoredError(f"number is {record.number}, which is not its own")
                self._records[record.number] = record
            except StoredError as error:
                self._damaged[int(place)] = f"trial {number}: {error}"
            self._seen = max(self._seen, int(place))
        unseen = connection.execute(_text(_UNSEEN), asked).scalar()
        if unseen is not None:
            self._seen = min(self._seen, int(unseen) - 1)

    def _plan(self) -> StudyPlan | None:
        with reaching(self.url), _engine(self.url).connect() as connection:
            problems: list[str] = []
            found = dict(self._attributes(connection, problems))
        if refusals := [one for one in problems if one.startswith("tune:")]:
            raise damaged(self.name, refusals[0])
        return self._known_plan(found)

    def _known_plan(self, attributes: Mapping[str, Any]) -> StudyPlan | None:
        try:
            return known_plan(attributes)
        except StoredError as error:
            raise damaged(self.name, str(error)) from error

    def _attributes(self, connection: Connection, problems: list[str]) -> list[tuple[str, Any]]:
        rows = connection.execute(_text(_ATTRIBUTES), {"study": self._study, "large": f"{CONFIRMATION_EVIDENCE}%"})
        found = []
        for key, value in rows:
            try:
                found += [(key, parse_json(value))] if value is not None else []
            except StoredError as error:
                problems.append(f"{visible(str(key))[:60]}: {error}")
        return found


def confirmation_key(start: str, number: int, place: int) -> str:
    """The attribute of the launch at that place (1: the first after the trial itself) of a trial's further launches.
    The first one's is what it was when there was one only.
    """
    return f"{start}{number}" if place == 1 else f"{start}{number}:{place}"


def study_names(url: str) -> dict[str, int]:
    """The studies of a storage, the oldest first, with their keys there. Raises UnfitEnvironmentError."""
    from sqlalchemy import inspect

    with reaching(url), _engine(url).connect() as connection:
        if not inspect(connection).has_table("studies"):
            return {}
        version = _schema_version(connection)
        if version is not None and version != _SCHEMA:
            raise UnfitEnvironmentError(
                f"the storage is of another version of Optuna: its tables have version {version}, not {_SCHEMA}\n"
                "Use the version of tune and of Optuna that wrote it."
            )
        return {str(name): int(key) for name, key in connection.execute(_text(_STUDIES))}


def _schema_version(connection: Connection) -> int | None:
    """The version of Optuna's tables; None if they do not say it."""
    from sqlalchemy import inspect

    if not inspect(connection).has_table("version_info"):
        return None
    found = _scalar(connection, "SELECT max(schema_version) FROM version_info")
    return None if found is None else int(found)


_ENGINES: dict[str, Any] = {}


def _engine(url: str) -> Any:
    """One pool of connections per storage. A SQLite file is opened for each look, since a new run may put another one
    in its place; where there is none that is an error, and no new file.
    """
    from sqlalchemy import URL, NullPool, create_engine, make_url

    if url not in _ENGINES:
        known = with_driver(url)
        if known.startswith("sqlite:///") and "?" not in known:
            path = quote(make_url(known).database or "")
            readable = URL.create("sqlite", database=f"file:{path}", query={"mode": "ro", "uri": "true"})
            _ENGINES[url] = create_engine(readable, poolclass=NullPool)
        else:
            _ENGINES[url] = create_engine(known, pool_pre_ping=True)
    return _ENGINES[url]


def _digest(*values: Any) -> str:
    return hashlib.blake2b(repr(values).encode(), digest_size=16).hexdigest()


def _scalar(connection: Connection, statement: str, **values: Any) -> Any:
    return connection.execute(_text(statement), values).scalar()


def _text(statement: str) -> Any:
    from sqlalchemy import text

    return text(statement)
