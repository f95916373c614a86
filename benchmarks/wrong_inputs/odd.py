"""Further siblings, by one who looked for what no row above has: odd figures, names, tables, flags and schemas."""

from __future__ import annotations

import gzip
import json

from benchmarks.wrong_inputs.trying import REPLAY, SERVER, Case, replay, server, spec, traffic, warm_start

_PRICES, _SPACE = "prices: {cpu_core_hour: 0.04}", "parameters: {cpu_cores: [1, 2, 4], threads: [1, 2]}"
_HEAD = "cpu_cores,threads,capacity_qps,p99_ms\n"
_NEW = ("--budget", "2", "--output", "new")
_GOOD = "good/recommendation.json"


def _run(kind: str, what: str, code: int, says: str, *words: str, **files: str | bytes) -> Case:
    named = {name.replace("__", "."): content for name, content in files.items()}
    return Case(kind, what, code, says, ("--service", "spec.yaml", *(words or _NEW)), named)


def _priced(what: str, prices: str, code: int, says: str) -> Case:
    return spec("prices", what, replay(_PRICES, f"prices: {prices}"), code, says)


def _space(what: str, parameters: str, says: str, code: int = 2) -> Case:
    return spec("space", what, replay(_SPACE, f"parameters: {{{parameters}}}"), code, says)


def _slice(what: str, slice_: str, says: str) -> Case:
    text = SERVER.replace("cpu_cores: [1, 2]", f"gpu_memory: {{choices: ['{slice_}'], role: gpu_memory}}")
    return spec("gpu", what, text.replace(_PRICES, "prices: {gpu_hour: {H100: {price: 3, memory: 80Gi}}}"), 2, says)


def _request(what: str, request: str, code: int, says: str, **files: str | bytes) -> Case:
    return spec("request", what, server("request: {path: /}", f"request: {request}"), code, says, **files)


def _table(what: str, content: str, code: int, says: str) -> Case:
    return _run("tables", what, code, says, table__csv=content)


ODD: tuple[Case, ...] = (
    # Prices and GPUs.
    _priced("a price of 1e308", "{cpu_core_hour: 1.0e+308}", 2, r"more than anything costs.*\(spec.yaml:5\)"),
    _priced("a price of NaN", "{cpu_core_hour: .nan}", 2, r"prices.cpu_core_hour.*\(spec.yaml:5\)"),
    _priced("a currency's sign", "{cpu_core_hour: 0.04, currency: '€'}", 2, "three capital letters, as in USD"),
    _priced("a list of GPU prices", "{gpu_hour: [1]}", 2, r"gpu_hour: must be a mapping.*\(spec.yaml:5\)"),
    _priced("a catalogue misspelt", "awz", 2, "there are aws, azure, gcp"),
    spec(
        "gpu",
        "a GPU's name in other letters",
        SERVER.replace("cpu_cores: [1, 2]", "gpu_type: {choices: [h100], role: gpu_type}").replace(
            _PRICES, "prices: {gpu_hour: {H100: 3}}"
        ),
        2,
        "no price for h100, which gpu_type may choose; there are prices of H100",
    ),
    _slice("a MIG profile of nine sevenths", "9g.99gb", r"'9g.99gb' is not a slice of a GPU.*\(spec.yaml:5\)"),
    _slice("a MIG profile in capitals", "1G.10GB", r"is not a slice of a GPU.*2g.10gb \(spec.yaml:5\)"),
    _slice("200% of a GPU", "200%", r"'200%' is not a slice of a GPU.*\(spec.yaml:5\)"),
    _slice("a slice larger than its GPU", "90Gi", "more than the GPU's memory"),
    # The space.
    _space("a choice of nothing", "cpu_cores: [], threads: [1]", r"choices: needs 1 or more.*\(spec.yaml:4\)"),
    _space("choices that are lists", "cpu_cores: [1], threads: [[1], [2]]", "must be a number, text, true or false"),
    _space("1 and 1.0", "cpu_cores: [1, 1.0], threads: [1]", "names 1 more than once"),
    _space("minus one of a count", "cpu_cores: [1], threads: {choices: [-1], role: threads}", "number of at least 0"),
    _space("a range of letters", "cpu_cores: [1], threads: {low: a, high: 4}", "low: must be a whole number, not 'a'"),
    spec("space", "a column's name", server("cpu_cores: [1, 2]", "cpu_cores: [1], p99_ms: [1]"), 2, "the outputs use"),
    spec("space", "today without a parameter", replay("1, threads: 1}", "1}"), 2, r"it gives no threads.*spec.yaml:6"),
    # The spec's form.
    spec("form", "a tab", "version: 1\nservice:\n\tname: x\n", 2, r"a tab cannot indent; use spaces \(spec.yaml:3\)"),
    spec("form", "an empty file", "", 2, r"the file is empty.*\(spec.yaml:1\)"),
    spec("form", "comments alone", "# soon\n", 2, "the file is empty"),
    spec("form", "a second document", f"{REPLAY}---\na: 1\n", 2, r"a second document begins here \(---\)"),
    spec("form", "a key twice", replay(new="slo: {p99: 9s}\n"), 2, r"the key slo stands here a second time.*:8\)"),
    spec("form", "a name with a space", replay("name: rep", "name: my service"), 2, "1 to 63 letters, digits"),
    spec("form", "a command as text", server('[python, server.py, "{port}"]', "a.sh --fast"), 2, "is a list"),
    spec("form", "a rate in words", replay(new="objective: {maximize: capacity_qps, target_qps: 1k}\n"), 2, "number"),
    # Requests.
    _request("NaN in the body", "{path: /, json: {a: .nan}}", 2, r"json.a is nan.*\(spec.yaml:3\)"),
    _request("NaN in the data set", "{dataset: d.jsonl}", 2, "d.jsonl:2 holds NaN", d__jsonl='{"a": 1}\n{"a": NaN}\n'),
    _request("a length of one's own", "{headers: {Content-Length: '5'}}", 2, "where a request ends"),
    _request("chunks of one's own", "{headers: {transfer-encoding: chunked}}", 2, "where a request ends"),
    _request("two bodies", "{json: {a: 1}, body: x}", 2, "exclude each other"),
    _request(
        "a schema from elsewhere", "{check: {schema: s.json}}", 2, r"nothing is fetched.*\(spec.yaml:3\)",
        s__json='{"properties": {"a": {"$ref": "http://127.0.0.1:1/x.json"}}}',
    ),
    _request(
        "a schema that refers to nothing", "{check: {schema: s.json}}", 2, r"\$ref '#/\$defs/none'",
        s__json='{"items": {"$ref": "#/$defs/none"}, "$defs": {"some": {}}}',
    ),
    _request(
        "a schema that refers to itself", "{json: {}, check: {schema: s.json}}", 0, "is valid",
        s__json='{"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#/$defs/some"}}, "$defs": {"some": {}}}',
    ),
    # Tables.
    _table("a heading alone", _HEAD, 2, "has no rows"),
    _table("spaces behind the commas", "cpu_cores, threads, capacity_qps\n1, 1, 10\n2, 1, 12\n", 0, "Recommended|Keep"),
    _table("tabs for commas", "cpu_cores\tthreads\tcapacity_qps\n1\t1\t10\n", 2, "by commas, not by tabs"),
    _table("a column twice", "cpu_cores,threads,capacity_qps,capacity_qps\n1,1,10,90\n", 2, "more than once"),
    _table("Python's 1_000", f"{_HEAD}1,1,1_000,20\n", 2, r"table.csv:2 capacity_qps: '1_000' is not a number"),
    _table("nothing of the space", f"{_HEAD}64,64,10,20\n", 2, "cpu_cores is 64 there, and 1, 2, 4 in the space"),
    _table("another SLO's", f"{_HEAD}1,1,10,5000\n1,2,10,20\n", 0, "1 row of table.csv.*p99 above 50.0 ms"),
    _table("failures alone", "cpu_cores,threads,capacity_qps,status\n" + "".join(
        f"{cores},{threads},,failed\n" for cores in (1, 2, 4) for threads in (1, 2)), 3, "every trial failed"),
    # Flags.
    _run("flags", "a budget of 3x", 2, "'3x' is not a budget", "--budget", "3x"),
    _run("flags", "a seed of 10^20", 2, "--seed", *_NEW, "--seed", "1" + "0" * 20),
    _run("flags", "an output of nothing", 2, "the path is empty", "--budget", "2", "--output", ""),
    _run("flags", "to resume another service", 2, "holds a study of rep, and none of rop",
         "--budget", "7", "--output", "good", "--resume", spec__yaml=replay("name: rep", "name: rop")),
    Case("flags", "a change of 0%", 2, "not a change", ("gate", "good", "--baseline", _GOOD, "--detect", "0%")),
    Case("flags", "a licence that is none", 2, "SPDX", ("share", "good", "--licence", "no such licence")),
    Case("flags", "a licence of nothing", 2, "SPDX", ("share", "good", "--licence", "")),
    Case("flags", "a file by Prometheus", 2, "is not a URL",
         ("plan", "good", "--traffic", "prometheus:file:///etc/passwd?query=up")),
    # Other files.
    Case("stored-internal", "a study.db in gzip", 4, "not a database", ("report", "good"),
         {"good/study.db": gzip.compress(b"SQLite format 3\0")}),
    warm_start("warm-start", "a rate in text", json.dumps({"request_throughput": "7", "completed": 5}), 2,
               "a part is not as the tool writes it", "w.json"),
    traffic("trace", "thousands with commas", 'time,rate\n0,"1,000"\n60,5\n120,5\n', 2, r"t\.csv:2: rate is 1,000"),
    traffic("trace", "one row", "time,rate\n0,5\n", 2, "at least two different times"),
    traffic("trace", "no requests", "time,rate\n0,0\n60,0\n120,0\n", 2, "every rate is 0"),
)  # fmt: skip
