"""The kinds of input: from a seed to one mutated input, tried."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import sqlite3
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.fuzzing.mutate import mutated, mutated_bytes, mutated_text
from benchmarks.fuzzing.run import Outcome, judged, tune

TABLE = (
    "cpu_cores,threads,capacity_qps,p99_ms,status\n1,1,10,20,ok\n1,2,12,20,\n2,1,20,21,ok\n2,2,24,21,oom\n"
    "4,1,40,22,\n4,2,50,22,\n"
)
REPLAY = """\
version: 1
service: {name: rep}
slo: {p99: 50ms, error_rate: 1%}
space:
  parameters: {cpu_cores: [1, 2, 4], threads: {low: 1, high: 2}}
  constraints: ["threads <= 2 * cpu_cores"]
prices: {cpu_core_hour: 0.04}
current: {cpu_cores: 1, threads: 1}
objective: {maximize: capacity_qps}
runner: {type: replay, table: table.csv}
"""
PROCESS = """\
version: 1
service:
  name: api
  command: [python, server.py, --port, "{port}", --threads, "{threads}"]
  env: {OMP_NUM_THREADS: "{threads}", EMPTY: ""}
  files: {config.json: template.json}
  ready: {path: /healthz, timeout: 30s}
  manage: [{path: "/set/{batch_size}", json: {batch: "{batch_size}"}}]
request:
  {method: POST, path: /predict, headers: {X-Id: a}, dataset: data.jsonl, timeout: 2s, check: {json: {"$.ok": 1}}}
slo: {p95: 40ms, p99: 50ms, error_rate: 0.1%}
objective: {minimize: cost_per_hour, target_qps: 100}
space:
  parameters:
    cpu_cores: [1, 2]
    threads: {choices: [1, 2, 4], role: threads}
    batch_size: {low: 1, high: 8, step: 1}
    memory: [512Mi, 1Gi]
  constraints: ["threads <= 2 * cpu_cores", "batch_size < 8 or memory == '1Gi'"]
prices: {cpu_core_hour: $0.04, memory_gib_hour: 0.005}
load: {max_trial: 60s, arrivals: trace, trace: trace.csv}
quality: {dataset: labelled.jsonl, answer: "$.ok", at_least: 90%}
"""
TRACES = (
    "time,rate\n0,5\n60,50\n120,5\n180,100\n", "timestamp,count\n2016010100,36000\n2016010101,72000\n2016010102,9\n",
    "ts;qps\n2024-03-31 01:00:00,5\n2024-03-31 02:00:00,6\n", "time\n0\n0.5\n3\n",
    "t,rpm\n1700000000000,60\n1700000060000,120\n",
)  # fmt: skip
ANALYZER = (
    "Model,Batch,Concurrency,Model Config Path,Instance Group,Max Batch Size,Satisfies Constraints,"
    "Throughput (infer/sec),p99 Latency (ms)\nrep,1,2,c1,1:CPU,2,Yes,110.0,5.6\nrep,2,4,c2,2:CPU,4,No,95,9\n"
)
GUIDELLM = {"benchmarks": [{"metrics": {
    "request_totals": {"successful": 100, "errored": 1, "incomplete": 0, "total": 101},
    "requests_per_second": {"successful": {"mean": 5.0}},
    "request_latency": {"successful": {"percentiles": {"p50": 0.02, "p99": 0.04}}}}}]}  # fmt: skip
AIPERF = {
    "request_throughput": {"unit": "requests/sec", "avg": 5.7}, "request_error_rate": {"unit": "%", "avg": 0.0},
    "request_latency": {"unit": "ms", "avg": 5, "p50": 5.0, "p99": 9.0}, "request_count": {"avg": 336.0},
}  # fmt: skip
STREAM = (
    b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
    b'data: {"choices": [{"finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
)


class Kinds:
    """All kinds over one scratch folder, in which a good run lies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in {
            "table.csv": TABLE, "good.yaml": REPLAY, "template.json": '{"threads": {threads}}', "server.py": "",
            "data.jsonl": '{"x": 1}\n{"x": 2}\n', "labelled.jsonl": '{"request": {"x": 1}, "label": 1}\n',
            "trace.csv": TRACES[0],
        }.items():  # fmt: skip
            (folder / name).write_text(text, encoding="utf-8")
        code, _, said = tune(folder, "--service", "good.yaml", "--budget", 6, "--output", "good")
        if code != 0:
            raise RuntimeError(f"the good run did not end well: {said}")

    def names(self) -> tuple[str, ...]:
        """In the order in which they are tried."""
        return tuple(name for name in vars(type(self)) if not name.startswith("_") and name not in ("names", "tried"))

    def tried(self, name: str, seed: int) -> Outcome:
        """One input of that kind, from its seed."""
        outcome: Outcome = getattr(self, name)(random.Random(f"{name} {seed}"))
        return outcome

    def specs(self, rng: random.Random) -> Outcome:
        """As text and as values, of a server and of a table."""
        text = rng.choice((REPLAY, PROCESS))
        path = self.folder / "spec.yaml"
        if rng.random() < 0.5:
            path.write_bytes(mutated_text(rng, text))
        else:
            from ruamel.yaml import YAML

            content = mutated(rng, YAML(typ="safe", pure=True).load(text))
            path.write_bytes(json.dumps(content).encode())
        return judged(lambda: tune(self.folder, "validate", "spec.yaml"), needs_place=True)

    def tables(self, rng: random.Random) -> Outcome:
        """A whole run over it."""
        (self.folder / "odd.csv").write_bytes(mutated_text(rng, TABLE))
        (self.folder / "odd.yaml").write_text(REPLAY.replace("table.csv", "odd.csv"), encoding="utf-8")
        shutil.rmtree(self.folder / "odd", ignore_errors=True)
        words = ("--service", "odd.yaml", "--budget", 2, "--output", "odd")
        return judged(lambda: tune(self.folder, *words), needs_place=True)

    def traces(self, rng: random.Random) -> Outcome:
        """For a plan, and so for a load test."""
        (self.folder / "odd-trace.csv").write_bytes(mutated_text(rng, rng.choice(TRACES)))
        return judged(lambda: tune(self.folder, "plan", "good", "--traffic", "odd-trace.csv"), needs_place=False)

    def studies(self, rng: random.Random) -> Outcome:
        """A stored study, in its bytes or in what it holds."""
        shutil.rmtree(self.folder / "study", ignore_errors=True)
        shutil.copytree(self.folder / "good", self.folder / "study")
        database = self.folder / "study" / "study.db"
        if rng.random() < 0.2:
            database.write_bytes(mutated_bytes(rng, database.read_bytes()))
        else:
            _damage(rng, database)
        words = rng.choice((
            ("report", "study"), ("plan", "study", "--qps", 100), ("export", "study"),
            ("gate", "study", "--baseline", "good/recommendation.json"),
        ))  # fmt: skip
        return judged(lambda: tune(self.folder, *words), needs_place=False)

    def baselines(self, rng: random.Random) -> Outcome:
        """An earlier recommendation."""
        content = (self.folder / "good" / "recommendation.json").read_text(encoding="utf-8")
        odd = (
            mutated_text(rng, content) if rng.random() < 0.3 else json.dumps(mutated(rng, json.loads(content))).encode()
        )
        (self.folder / "baseline.json").write_bytes(odd)
        return judged(lambda: tune(self.folder, "gate", "good", "--baseline", "baseline.json"), needs_place=False)

    def warm_starts(self, rng: random.Random) -> Outcome:
        """Results of other tools."""
        if rng.random() < 0.5:
            path, odd = self.folder / "warm.csv", mutated_text(rng, ANALYZER)
        else:
            path, odd = self.folder / "warm.json", json.dumps(mutated(rng, rng.choice((GUIDELLM, AIPERF)))).encode()
        path.write_bytes(odd)
        return judged(lambda: self._read_warm(path), needs_place=False)

    def answers(self, rng: random.Random) -> Outcome:
        """A server's answer to a load test: compressed, checked, streamed."""
        return judged(lambda: _answered(rng), needs_place=False)

    def callbacks(self, rng: random.Random) -> Outcome:
        """Requests to the dashboard."""
        return judged(lambda: self._called(rng), needs_place=False)

    def _read_warm(self, path: Path) -> tuple[int, str, str]:
        from tuner.errors import TuneError
        from tuner.spec.reading import load_spec
        from tuner.study.warm_start import read_warm_start

        try:
            return 0, read_warm_start(path, load_spec(self.folder / "good.yaml")).note, ""
        except TuneError as error:
            return int(error.exit_code), "", str(error)

    @cached_property
    def _dashboard(self) -> Any:
        from results.dashboard import make_app
        from tuner.commands.dashboard import Studies
        from tuner.study.storage.archive import Archive
        from tuner.study.storage.connection import sqlite_url

        archive = Archive(sqlite_url(self.folder / "good"))
        return make_app(Studies({archive.name: archive}, None), None).test_client()

    def _called(self, rng: random.Random) -> tuple[int, str, str]:
        given = {"qps": 10, "pattern": "daily", "misses": 1, "spare": 1, "spot-share": 0, "spot-price": 30}
        inputs = [{"id": key, "property": "value", "value": value} for key, value in given.items()]
        body = {
            "output": "..plan.children...fleet.figure..",
            "outputs": [{"id": "plan", "property": "children"}, {"id": "fleet", "property": "figure"}],
            "inputs": [*inputs, {"id": "version", "property": "data", "value": "x"}],
            "state": [{"id": "study", "property": "value", "value": "rep"}], "changedPropIds": ["qps.value"],
        }  # fmt: skip
        odd = json.dumps(mutated(rng, body)).encode()
        data = mutated_bytes(rng, odd) if rng.random() < 0.2 else odd
        answer = self._dashboard.post(
            "/_dash-update-component", data=data, content_type="application/json", base_url="http://127.0.0.1"
        )
        return (0, "", "") if answer.status_code in (200, 204, 400, 413, 415) else (1, "", f"{answer.status_code}")


class _Answer:
    def __init__(self, body: bytes) -> None:
        self._pieces = [body[at : at + 64] for at in range(0, len(body), 64)]

    def piece(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def _answered(rng: random.Random) -> tuple[int, str, str]:
    from loadtest.request.answers import checker
    from loadtest.request.decoding import AnswerError, DecodedLines, decoded_body
    from loadtest.request.streams import read_stream
    from loadtest.request_plan import AnswerCheck

    body = mutated_bytes(rng, rng.choice((STREAM, b'{"ok": 1, "more": [1, 2, {"a": null}]}', b"[" * 5000)))
    encoding = rng.choice(("", "gzip", "deflate", "gzip, gzip", "br", "\xff"))
    packed = gzip.compress(body) if "gzip" in encoding else body
    packed = mutated_bytes(rng, packed) if rng.random() < 0.3 else packed
    check = checker(AnswerCheck(json_paths={"$..a": {"type": "null"}}, json_schema={"type": "object"}))
    try:
        check(200, decoded_body(_Answer(packed), encoding))
        read_stream(DecodedLines(_Answer(packed), encoding), 0.0)
    except AnswerError:
        pass
    return 0, "", ""


def _damage(rng: random.Random, database: Path) -> None:
    """One attribute of the study or of a trial, or a column of Optuna's own."""
    with closing(sqlite3.connect(database)) as connection, connection:
        kind = rng.random()
        if kind < 0.15:
            statement = rng.choice((
                "DELETE FROM trials WHERE number = 1", "UPDATE trials SET number = 0",
                "DELETE FROM trial_user_attributes",
                "UPDATE trials SET state = 'RUNNING'", "UPDATE trials SET state = 'XX'", "DELETE FROM studies",
                "UPDATE version_info SET schema_version = 99", "DROP TABLE trial_user_attributes", "DROP TABLE trials",
                "INSERT INTO studies(study_name) VALUES ('b')", "UPDATE trials SET datetime_complete = 'never'",
            ))  # fmt: skip
            connection.execute(statement)
            return
        table, key = rng.choice((("study_user_attributes", "study_user_attribute_id"),
                                 ("trial_user_attributes", "trial_user_attribute_id")))  # fmt: skip
        rows = connection.execute(f"SELECT {key}, value_json FROM {table}").fetchall()
        place, text = rng.choice(rows)
        odd = _cut(rng, text) if rng.random() < 0.2 else json.dumps(mutated(rng, json.loads(text)))
        connection.execute(f"UPDATE {table} SET value_json = ? WHERE {key} = ?", (odd, place))


def _cut(rng: random.Random, text: str) -> str:
    return text[: rng.randint(0, len(text))]
