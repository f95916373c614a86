"""A stored study, read as it grows.

Optuna's own reading takes four seconds for 10,000 trials, and again whenever one was added: its tables are read here
with plain SQL, only what is new, and what a trial's figures rest on only when it is asked for. Nothing is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from results import Evidence, TrialRecord
from tuner.errors import UsageError
from tuner.search.beliefs import Expectation
from tuner.spec.reading import LoadedSpec, check_content
from tuner.spec.yaml_file import YamlFile
from tuner.study.keys import (
    BUDGET,
    CONFIRMATION,
    CONFIRMATION_EVIDENCE,
    EVIDENCE,
    EXPLANATION,
    OUTLOOK,
    PLAN,
    PROVENANCE,
    RECORD,
    STOPPED,
)
from tuner.study.plan import StudyPlan
from tuner.study.storage import reaching, with_driver

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_STUDIES = "SELECT study_name, study_id FROM studies ORDER BY study_id"
_ATTRIBUTES = "SELECT key, value_json FROM study_user_attributes WHERE study_id = :study AND key NOT LIKE :large"
_ATTRIBUTE = "SELECT value_json FROM study_user_attributes WHERE study_id = :study AND key = :key"
_RECORDS = """
    SELECT a.trial_user_attribute_id, a.value_json FROM trial_user_attributes a JOIN trials t ON t.trial_id = a.trial_id
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
_LAST = "SELECT max(datetime_complete) FROM trials WHERE study_id = :study"


@dataclass(frozen=True)
class Snapshot:
    """A study at one moment. `ended` is when the last trial was over, an ISO time."""

    records: tuple[TrialRecord, ...]
    confirmations: Mapping[int, tuple[TrialRecord, ...]]
    outlook: Outlook
    provenance: Mapping[str, str]
    explanation: Mapping[str, Any] | None
    stopped: str | None
    budget: int | None
    running: int
    ended: str | None


@dataclass(frozen=True)
class Outlook:
    """What the search expected when it ended: of each trial's log capacity by the other trials, and of the best
    configuration that was not tried, as a share of the best's cost (None: not known).
    """

    expected: Mapping[int, Expectation] = field(default_factory=dict)
    untried_improvement: float | None = None

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Outlook:
        """Nothing is expected where the attributes hold no outlook, as in an older study."""
        stored = attributes.get(OUTLOOK) or {}
        expected = {int(number): Expectation(*pair) for number, pair in stored.get("expected", {}).items()}
        return cls(expected, stored.get("untried_improvement"))

    def stored(self) -> dict[str, Any]:
        """The attribute's content."""
        expected = {str(number): [one.mean, one.spread] for number, one in self.expected.items()}
        return {"expected": expected, "untried_improvement": self.untried_improvement}


class Archive:
    """One study of a storage. Not for several threads at once."""

    def __init__(self, url: str, name: str | None = None) -> None:
        """`name` may be left out where the storage holds just one study.

        Raises UsageError when there is no such study of ours, UnfitEnvironmentError when the storage cannot be reached.
        """
        self.url = url
        studies = study_names(url)
        if name is None and len(studies) != 1:
            raise UsageError(f"the storage holds {len(studies)} studies, so which? {', '.join(studies)}".rstrip("? "))
        if name is not None and name not in studies:
            raise UsageError(f"the storage holds no study named {name}; there are {', '.join(studies) or 'none'}")
        self.name = name or next(iter(studies))
        self._study = studies[self.name]
        self._seen = 0
        self._records: dict[int, TrialRecord] = {}
        known = self._plan()
        if known is None:
            raise UsageError(f"the study {self.name} was not made by tune: it holds no spec")
        self._content, self._spec_path = known.content, known.provenance.get("spec", "spec of the stored study")

    @cached_property
    def loaded(self) -> LoadedSpec:
        """The spec as it was when the study began."""
        # Files that the spec names lie beside it.
        return check_content(YamlFile(Path(self._spec_path)), dict(self._content))

    def snapshot(self) -> Snapshot:
        """All that is known now. Raises UnfitEnvironmentError when the storage is lost."""
        with reaching(self.url), _engine(self.url).connect() as connection:
            self._read_new(connection)
            found = dict(self._attributes(connection))
            running = int(_scalar(connection, _RUNNING, study=self._study) or 0)
            last = _scalar(connection, _LAST, study=self._study)
        plan = found.get(PLAN) or {"provenance": found.get(PROVENANCE) or {}, "budget": found.get(BUDGET)}
        return Snapshot(
            records=tuple(self._records[number] for number in sorted(self._records)),
            confirmations=confirmations(found),
            outlook=Outlook.of(found),
            provenance=plan["provenance"],
            explanation=found.get(EXPLANATION),
            stopped=found.get(STOPPED),
            budget=plan["budget"],
            running=running,
            ended=None if last is None else str(last)[:19].replace(" ", "T"),
        )

    def version(self) -> tuple[str, str]:
        """What changes whenever a trial begins or ends or the best are measured again; and what changes when another
        run has put its study here. Raises UnfitEnvironmentError.
        """
        with reaching(self.url), _engine(self.url).connect() as connection:
            row = connection.execute(_text(_VERSION), {"study": self._study}).one()
            run = [_scalar(connection, _ATTRIBUTE, study=self._study, key=key) for key in (PLAN, PROVENANCE)]
        return " ".join(map(str, row)), str(run)

    def evidence(self, number: int) -> Evidence:
        """What the latest measurement of a trial rests on; empty where the trial left none."""
        with reaching(self.url), _engine(self.url).connect() as connection:
            keys = {"study": self._study, "name": f"{CONFIRMATION_EVIDENCE}{number}"}
            text = connection.execute(_text(_LATEST), {**keys, "further": f"{keys['name']}:%"}).scalar()
            if text is None:
                text = _scalar(connection, _TRIAL_ATTRIBUTE, study=self._study, key=EVIDENCE, number=number)
        return Evidence() if text is None else Evidence.model_validate_json(text)

    def _read_new(self, connection: Connection) -> None:
        """A record is stored a moment before its trial is over: what is still open is looked at again."""
        asked = {"study": self._study, "key": RECORD}
        for place, value in connection.execute(_text(_RECORDS), {**asked, "after": self._seen}):
            record = TrialRecord.model_validate_json(value)
            self._records[record.number] = record
            self._seen = max(self._seen, int(place))
        unseen = connection.execute(_text(_UNSEEN), asked).scalar()
        if unseen is not None:
            self._seen = min(self._seen, int(unseen) - 1)

    def _plan(self) -> StudyPlan | None:
        with reaching(self.url), _engine(self.url).connect() as connection:
            return StudyPlan.read(dict(self._attributes(connection)))

    def _attributes(self, connection: Connection) -> list[tuple[str, Any]]:
        rows = connection.execute(_text(_ATTRIBUTES), {"study": self._study, "large": f"{CONFIRMATION_EVIDENCE}%"})
        return [(key, json.loads(value)) for key, value in rows if value is not None]


def confirmations(attributes: Mapping[str, Any]) -> dict[int, tuple[TrialRecord, ...]]:
    """The further launches among a study's attributes, in their order, by the number of their trial."""
    found: dict[int, dict[int, TrialRecord]] = {}
    for key, value in attributes.items():
        if key.startswith(CONFIRMATION):
            number, _, place = key.removeprefix(CONFIRMATION).partition(":")
            found.setdefault(int(number), {})[int(place or 1)] = TrialRecord.model_validate(value)
    return {number: tuple(launches[place] for place in sorted(launches)) for number, launches in found.items()}


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
        return {str(name): int(key) for name, key in connection.execute(_text(_STUDIES))}


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


def _scalar(connection: Connection, statement: str, **values: Any) -> Any:
    return connection.execute(_text(statement), values).scalar()


def _text(statement: str) -> Any:
    from sqlalchemy import text

    return text(statement)
