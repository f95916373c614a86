"""Tables, other tools' results and commands as those write them who have not read the documents."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.wrong_inputs.trying import Case, replay, traffic, warm_start

_HEAD = "cpu_cores,threads,capacity_qps,p99_ms\n"
_RUN = ("--service", "spec.yaml", "--budget", "2", "--output", "new")
_CACHE = replay("threads: [1, 2]", "cache: [true, false]").replace("threads: 1}", "cache: true}")
_LLM_D = {"requests": {"total": 5}, "throughput": {"requests_per_sec": 3.0},
          "latency": {"request_latency": {"units": "ms", "p99": 20.0}}}  # fmt: skip
_STAGE = {"load_summary": {}, "successes": {
    "count": 5, "throughput": {"requests_per_sec": 3.0}, "latency": {"request_latency": {"p99": 0.02}}}}  # fmt: skip
_ELSEWHERE = json.dumps({
    "schema": 1, "service": "rep", "configuration": {"cpu_cores": 64, "threads": 2}, "meets_slo": True, "trial": 0,
    "confirmed": True, "capacity_qps": {"value": 50, "low": 50, "high": 50}, "p99_ms": None, "error_rate": None,
    "cost_per_hour": 1, "cost_per_million_requests": 1,
    "trials": {"complete": 1, "pruned": 0, "infeasible": 0, "failed": 0},
})  # fmt: skip


def _table(what: str, content: str, code: int, says: str, text: str = replay()) -> Case:
    return Case("tables", what, code, says, _RUN, {"table.csv": content, "spec.yaml": text})


def _result(what: str, content: dict[str, Any], says: str = "read 1 trial, left out 1") -> Case:
    return warm_start("warm-start", what, json.dumps(content), 2, says, "w.json")


def _report(**metrics: Any) -> dict[str, Any]:
    return {"version": "0.1", "metrics": _LLM_D | metrics}


STRANGERS: tuple[Case, ...] = (
    # Tables.
    _table("semicolons", _HEAD.replace(",", ";") + "1;1;10,5;20\n", 2, "by commas, not by semicolons"),
    _table("comments and empty lines", f"# ours\n\n{_HEAD}# then\n1,1,10,20\n\n,,,\n", 0, "cpu_cores=1 threads=1"),
    _table("empty columns at the end", "cpu_cores,threads,capacity_qps,,\n1,1,10,,\n2,1,30,,\n", 0, "Recommended|Keep"),
    _table("capitals in the heading", "CPU Cores,threads,capacity_qps\n1,1,10\n", 2, "is it CPU Cores.*spec.yaml:7"),
    _table("a unit in a cell", f"{_HEAD}1,1,10,20ms\n", 2, r"table.csv:2 p99_ms: '20ms' is not a number"),
    _table("n/a", f"{_HEAD}1,1,n/a,20\n", 2, "leave the cell empty where there is none"),
    _table("p99 in seconds", f"{_HEAD}1,1,10,0.02\n1,2,12,0.02\n", 0, "p99_ms of table.csv is 0.02 at most.*seconds"),
    _table("a column p99_s", "cpu_cores,threads,capacity_qps,p99_s\n1,1,10,0.02\n", 0, "not read: p99_s; read are"),
    _table("half failed", "cpu_cores,threads,capacity_qps,error_rate\n1,1,10,0.5\n", 0, "not read: error_rate"),
    _table("OK in capitals", "cpu_cores,threads,capacity_qps,status\n1,1,10,OK\n", 0, "cpu_cores=1 threads=1"),
    _table("10^-300 requests/s", f"{_HEAD}1,1,1e-300,20\n", 2, r"csv:2 capacity_qps is 1e-300, which nothing has"),
    _table("prices of some", f"{_HEAD[:-1]},price_per_hour\n1,1,9,20,1\n1,2,9,20,\n", 0, "1 row of .* without a price"),
    _table("yes for true", "cpu_cores,cache,capacity_qps\n1,yes,9\n", 2, "cache is yes there, and true, fal", _CACHE),
    _table("TRUE for true", "cpu_cores,cache,capacity_qps\n1,TRUE,9\n2,FALSE,9\n", 0, "Recommended|Keep", _CACHE),
    _table("no final asked for", _HEAD + "".join(f"{cores},{threads},{9 * cores + threads},20\n" for cores in (1, 2, 4)
           for threads in (1, 2)), 0, "Uncertain, since it was launched once only: it is the best",
           replay("current: {cpu_cores: 1, threads: 1}", "objective: {maximize: capacity_qps, final: 0%}")),
    # Other tools' results.
    _result("llm-d, no requests at all", _report(requests={"total": 0})),
    _result("llm-d, 10^400 requests", _report(requests={"total": 10**400})),
    _result("llm-d, 10^200 requests/s", _report(throughput={"requests_per_sec": 1e200})),
    _result("inference-perf, fewer than none failed", _STAGE | {"failures": {"count": -5}}),
    _result("SGLang, 3,000 brackets of errors", {"request_throughput": 3.0, "completed": 5, "errors": "[" * 3000}),
    _result("an own recommendation", {"schema": 1}, "an earlier run of tune is named by its folder"),
    # Traffic.
    traffic("trace", "of Grafana, with a scrape left out", 'Time,"{job=""a""}"\n2024-05-12 13:00:00,5 req/s\n'
            "2024-05-12 13:01:00,6 req/s\n2024-05-12 13:03:00,6 req/s\n", 2, "its times go in equal steps"),
    traffic("trace", "two values a minute apart", "time,value\n0,5\n60,6\n", 2, "none of 'value' is a column of rates"),
    traffic("trace", "comments", "# ours\ntime;rate\n0;5\n# then\n60;7\n", 0, "6.00 requests/s on average"),
    # Going on.
    Case("resume", "fewer than there are", 0, "; 0 trials to go;",
         ("--service", "spec.yaml", "--budget", "2", "--output", "good", "--resume")),
    Case("resume", "another folder", 0, "--resume: no finished trial is there", (*_RUN, "--resume")),
    # Commands.
    Case("gate-nan", "a configuration that the table lacks", 2, r"no row is of the baseline's configuration",
         ("gate", "good", "--baseline", "b.json", "--measure"), {"b.json": _ELSEWHERE}),
    *(Case("flags", f"until {end}", 2, "--end .*seconds since 1970",
           ("verify", "good", "--prometheus", "http://127.0.0.1:9", "--metric", "m", "--end", end))
      for end in ("0", "nan", "1e20")),
    Case("flags", "a command misspelt", 2, "No such command 'verfy': is it verify", ("verfy", "good")),
    Case("flags", "money for nothing", 2, "--max-cost of 0 buys no trial", (*_RUN, "--max-cost", "0")),
    *(Case("flags", f"a storage of {url}", 2, "--storage in memory keeps nothing", (*_RUN, "--storage", url))
      for url in ("sqlite://", "sqlite:///:memory:")),
    Case("flags", "no shell", 2, r"Choose from: bash, zsh, fish\n", ("completion",)),
    Case("flags", "a spec for a catalogue", 2, "is no price catalogue", ("prices", "spec.yaml")),
    Case("flags", "no Job", 2, r"there is no file job.yaml\n$", ("controller", "--job", "job.yaml")),
    Case("flags", "a worker without a study", 4, "A run with that --storage makes the file", ("worker", "--storage", "sqlite:///no.db")),
    Case("form", "no such spec", 2, "`tune init` writes a spec to start from", ("validate", "none.yaml")),
)  # fmt: skip
