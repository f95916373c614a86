"""Siblings of those inputs: other units, files, encodings, positions, damage and flags, thought of and not handed over."""

from __future__ import annotations

import gzip
import json

from benchmarks.wrong_inputs.trying import REPLAY, SERVER, Case, baseline, replay, server, spec, traffic, warm_start

_FIGURES = {
    "schema": 1, "service": "rep", "configuration": {"cpu_cores": 4, "threads": 2},
    "capacity_qps": {"value": 50.0, "low": 50.0, "high": 50.0}, "error_rate": None, "p99_ms": {"value": 22.0, "low": 22.0, "high": 22.0}, "cost_per_hour": 0.16, "cost_per_million_requests": 0.9,
    "meets_slo": True, "confirmed": True, "trial": 3, "services": [], "interference": None, "alternatives": [],
    "trials": {"complete": 6, "pruned": 0, "infeasible": 0, "failed": 0},
}  # fmt: skip
_LOAD = "load: {max_trial: 60s, arrivals: trace, trace: t.csv}\n"
_GUIDE = {"benchmarks": [{"metrics": {
    "request_totals": {"successful": 0, "errored": 300, "incomplete": 0, "total": 300},
    "requests_per_second": {"successful": {"mean": 0.0}},
    "request_latency": {"successful": {"percentiles": {"p50": 0.0, "p99": 0.0}}}}}]}  # fmt: skip
_RATES = "time,rate\n0,5\n60,50\n120,5\n"


def _stamps(unit: int) -> str:
    first = 1_700_000_000 * unit
    return "t,requests\n" + "".join(f"{first + 3600 * unit * hour},36000\n" for hour in range(3))


def _table(what: str, content: str | bytes, code: int, says: str) -> Case:
    words = ("--service", "spec.yaml", "--budget", "2", "--output", "new")
    return Case("tables", what, code, says, words, {"table.csv": content})


def _figure(what: str, code: int, says: str, **changed: object) -> Case:
    return baseline("gate-nan", what, json.dumps(_FIGURES | changed), code, says)


SIBLINGS: tuple[Case, ...] = (
    # Money and traffic.
    traffic(
        "traffic-hour-stamps",
        "milliseconds since 1970",
        _stamps(10**3),
        0,
        "from 2023-11-14 22:13 to 2023-11-15 01:13 UTC",
    ),
    traffic("traffic-hour-stamps", "microseconds", _stamps(10**6), 0, "from 2023-11-14 22:13 to 2023-11-15 01:13 UTC"),
    traffic("traffic-hour-stamps", "nanoseconds", _stamps(10**9), 0, "from 2023-11-14 22:13 to 2023-11-15 01:13 UTC"),
    traffic(
        "traffic-hour-stamps",
        "minutes as 202405120130",
        "t,requests\n202405120130,600\n202405120131,1200\n",
        0,
        "from 2024-05-12 01:30 to 2024-05-12 01:32 UTC",
    ),
    traffic(
        "traffic-hour-stamps",
        "seconds as 20240512013000",
        "t,requests\n20240512013000,10\n20240512013001,20\n",
        0,
        "from 2024-05-12 01:30 to 2024-05-12 01:30 UTC",
    ),
    traffic(
        "traffic-hour-stamps", "a day that no calendar has", "t,requests\n20240230,600\n20240231,1200\n", 2, r"t\.csv:2"
    ),
    traffic(
        "traffic-hour-stamps",
        "two units in one file",
        "t,requests\n1700000000,600\n1700000060000,1200\n",
        2,
        r"t\.csv:3",
    ),
    traffic(
        "trace-rate-column-ignored",
        "requests per minute",
        "time,rpm\n0,300\n60,3000\n120,300\n",
        0,
        "50.0 at the peak|50 at the peak",
    ),
    traffic(
        "trace-rate-column-ignored",
        "a column that no traffic has",
        "time,colour\n0,300\n60,3000\n120,5\n",
        2,
        r"t\.csv:1.*colour|colour.*t\.csv:1",
    ),
    traffic(
        "trace-rate-column-ignored",
        "a rate by another name, at uneven times",
        "time,Requests per second\n0,5\n61,50\n90,5\n",
        2,
        r"t\.csv:1: 'requests per second' is not known",
    ),
    traffic(
        "trace-rate-column-ignored",
        "semicolons and a BOM",
        b"\xef\xbb\xbftime;rate\r\n0;5\r\n60;50\r\n120;5\r\n",
        0,
        "50.0 at the peak|50 at the peak",
    ),
    traffic("trace-rate-column-ignored", "UTF-16", _RATES.encode("utf-16"), 0, "50.0 at the peak|50 at the peak"),
    traffic("trace-rate-column-ignored", "gzip by another name", gzip.compress(_RATES.encode()), 2, r"t\.csv"),
    traffic("trace-rate-column-ignored", "a negative rate", "time,rate\n0,5\n60,-50\n", 2, r"t\.csv:3"),
    traffic("trace-rate-column-ignored", "a rate of 1e308", "time,rate\n0,5\n60,1e308\n120,5\n", 2, r"t\.csv:3"),
    traffic(
        "trace-naive-dates-local",
        "an hour twice at the end of summer, with zones",
        "time,rate\n2023-10-29T02:30:00+02:00,5\n2023-10-29T02:30:00+01:00,6\n2023-10-29T03:30:00+01:00,6\n",
        0,
        "from 2023-10-29 00:30 to 2023-10-29 03:30 UTC",
    ),
    traffic(
        "trace-naive-dates-local",
        "stamps that go back",
        "time,rate\n2023-10-29 02:30:00,5\n2023-10-29 01:30:00,6\n",
        2,
        r"t\.csv:3",
    ),
    Case("planner", "a rate of nan", 2, "--qps", ("plan", "good", "--qps", "nan")),
    Case("planner", "a rate of 1e400", 2, "--qps", ("plan", "good", "--qps", "1e400")),
    Case("planner", "no rate", 2, "--qps", ("plan", "good", "--qps", "0")),
    # What decides.
    _figure("a baseline of zero", 2, "capacity_qps.value", capacity_qps={"value": 0, "low": 0, "high": 0}),
    _figure("a baseline below zero", 2, "capacity_qps.value", capacity_qps={"value": -5, "low": 1, "high": 2}),
    _figure("a baseline of text", 2, "capacity_qps.value", capacity_qps={"value": "50", "low": 1, "high": 2}),
    _figure("a baseline of true", 2, "capacity_qps.value", capacity_qps={"value": True, "low": 1, "high": 2}),
    _figure("an interval the wrong way round", 2, "capacity_qps", capacity_qps={"value": 50, "low": 60, "high": 40}),
    _figure("another service's baseline", 2, "service", service="other"),
    baseline("gate-nan", "a figure of 400 digits", json.dumps(_FIGURES).replace("50.0", "9" * 400, 1), 2, r"b\.json"),
    baseline("gate-nan", "half a file", json.dumps(_FIGURES)[:90], 2, r"b\.json"),
    baseline("gate-nan", "a list of 100,000 lists", "[" * 100_000, 2, r"b\.json"),
    _table("a capacity of inf", "cpu_cores,threads,capacity_qps,p99_ms\n1,1,inf,20\n", 2, r"table\.csv:2"),
    _table(
        "a capacity with a comma for the point",
        'cpu_cores,threads,capacity_qps,p99_ms\n1,1,"10,5",20\n',
        2,
        r"table\.csv:2",
    ),
    _table(
        "the same configuration twice, otherwise",
        "cpu_cores,threads,capacity_qps,p99_ms\n1,1,10,20\n1,1,90,20\n",
        2,
        r"table\.csv:3",
    ),
    _table("an unclosed quote", 'cpu_cores,threads,capacity_qps,p99_ms\n1,1,"10,20\n', 2, r"table\.csv"),
    _table("Latin-1", "cpu_cores,threads,capacity_qps,p99_ms,größe\n1,1,10,20,x\n".encode("latin-1"), 2, r"table\.csv"),
    # Other people's files.
    warm_start(
        "warmstart-errors-ignored", "GuideLLM, nothing succeeded", json.dumps(_GUIDE), 0, "read 1 trial", "w.json"
    ),
    warm_start("warmstart-errors-ignored", "a JSON of something else", '{"results": [1, 2]}', 2, r"w\.json", "w.json"),
    warm_start("warmstart-errors-ignored", "an empty file", "", 2, r"w\.json", "w.json"),
    # The spec.
    spec("spec-internal", "!!int of text", replay(new="quality: !!int maybe\n"), 2, r"\(spec.yaml:8\)"),
    spec("spec-internal", "!!timestamp of text", replay(new="quality: !!timestamp maybe\n"), 2, r"\(spec.yaml:8\)"),
    spec(
        "spec-internal",
        "!!python/object",
        replay(new="quality: !!python/object/apply:os.system [id]\n"),
        2,
        r"\(spec.yaml:8\)",
    ),
    spec(
        "spec-internal",
        "aliases that unfold to 10^9",
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9))
        + REPLAY,
        2,
        r"spec.yaml:\d",
    ),
    spec("spec-internal", "10,000 brackets", replay(new="quality: " + "[" * 10_000 + "\n"), 2, r"spec.yaml:\d"),
    spec("spec-internal", "a key twice", replay(new="slo: {p99: 9s}\n"), 2, r"spec.yaml:8"),
    spec("spec-internal", "two documents", REPLAY + "---\n" + REPLAY, 2, r"spec.yaml"),
    spec("spec-internal", "UTF-16", REPLAY.encode("utf-16"), 0, "is valid"),
    spec("spec-internal", "UTF-32 without a BOM", REPLAY.encode("utf-32-le"), 2, r"spec.yaml"),
    spec("spec-internal", "Latin-1", replay("name: rep", "name: größe").encode("latin-1"), 2, r"spec.yaml"),
    spec(
        "spec-internal", "a bidirectional mark in a name", replay("name: rep", 'name: "r\\u202eep"'), 2, r"spec.yaml:2"
    ),
    spec("spec-internal", "an escape code in a key", replay(new='"\\e[31mred": 1\n'), 2, r"spec.yaml:8"),
    spec("spec-internal", "a limit of .inf", replay("50ms", ".inf"), 2, r"slo.p99.*\(spec.yaml:3\)"),
    spec("spec-internal", "a limit of 0ms", replay("50ms", "0ms"), 2, r"slo.p99.*\(spec.yaml:3\)"),
    spec("spec-internal", "memory in GB", replay("threads: [1, 2]", "memory: [1GB, 2GB]"), 2, r"\(spec.yaml:4\)"),
    spec(
        "spec-internal",
        "an empty folder's worth of data",
        server("path: /}", "path: /, dataset: none/}"),
        2,
        r"request.dataset.*\(spec.yaml:3\)",
    ),
    spec(
        "spec-internal",
        "/dev/urandom as the data set",
        server("path: /}", "path: /, dataset: /dev/urandom}"),
        2,
        r"request.dataset.*\(spec.yaml:3\)",
    ),
    spec("spec-internal", "/dev/zero as the table", replay("table.csv", "/dev/zero"), 2, r"runner.table|/dev/zero"),
    spec(
        "spec-internal",
        "/proc/self/mem as the trace",
        server(new=_LOAD.replace("t.csv", "/proc/self/mem")),
        2,
        r"load.trace.*\(spec.yaml:7\)",
    ),
    Case("spec-internal", "a folder as the spec", 2, "good", ("validate", "good")),
    Case("spec-internal", "/dev/zero as the spec", 2, "/dev/zero", ("validate", "/dev/zero")),
    spec(
        "spec-hang",
        "a product of powers",
        replay("threads: [1, 2]}}", 'threads: [1, 2]}, constraints: ["9**9**9**9 > threads"]}'),
        2,
        r"\(spec.yaml:4\)",
    ),
    spec(
        "spec-hang",
        "a text of 10^10 letters",
        replay("threads: [1, 2]}}", "threads: [1, 2]}, constraints: [\"'a' * 10000000000 != 'b'\"]}"),
        2,
        r"\(spec.yaml:4\)",
    ),
    spec(
        "spec-hang",
        "a range of 10^18",
        replay("threads: [1, 2]", "threads: {low: 0, high: 1000000000000000000}"),
        2,
        r"beyond 9e\+15 \(spec.yaml:4\)",
    ),
    spec(
        "spec-hang",
        "a range the wrong way round",
        replay("threads: [1, 2]", "threads: {low: 9, high: 1}"),
        2,
        r"\(spec.yaml:4\)",
    ),
    spec(
        "port-not-told",
        "{port} within a literal alone",
        server('"{port}"', '"{{port}}"'),
        2,
        r"service.command.*\(spec.yaml:2\)",
    ),
    spec(
        "header-not-latin1",
        "a line break in a header's name",
        server("path: /", 'path: /, headers: {"X\\r\\nY": a}'),
        2,
        r"request.headers.*\(spec.yaml:3\)",
    ),
    spec(
        "header-not-latin1",
        "an emoji in the path",
        server("path: /", 'path: "/😀"'),
        2,
        r"percent-encode.*\(spec.yaml:3\)",
    ),
    spec(
        "header-not-latin1",
        "a line break in the path",
        server("path: /", 'path: "/a\\r\\nHost: b"'),
        2,
        r"request.path.*\(spec.yaml:3\)",
    ),
    spec(
        "slo-above-timeout",
        "ttft above the time-out",
        SERVER.replace("path: /", "path: /, stream: openai, json: {}, timeout: 1s").replace(
            "p99: 50ms", "ttft: {p99: 5s}"
        ),
        2,
        r"timeout.*\(spec.yaml:3\)",
    ),
    spec("too-short-trial", "500 ms", server(new="load: {max_trial: 500ms}\n"), 0, "too short to decide"),
    # Safety.
    spec(
        "export-traversal",
        "a rooted name",
        server('"{port}"]', '"{port}"], files: {/tmp/escaped: server.py}'),
        2,
        r"\(spec.yaml:2\)",
    ),
    spec(
        "export-traversal",
        "a way round by a folder",
        server('"{port}"]', '"{port}"], files: {a/../../escaped: server.py}'),
        2,
        r"\(spec.yaml:2\)",
    ),
    spec(
        "export-traversal",
        "backslashes",
        server('"{port}"]', "\"{port}\"], files: {'..\\..\\escaped': server.py}"),
        2,
        r"\(spec.yaml:2\)",
    ),
    spec(
        "export-traversal",
        "the environment of this process as a template",
        server('"{port}"]', '"{port}"], files: {x: ../../../../../proc/self/environ}'),
        2,
        r"\(spec.yaml:2\)",
    ),
    Case(
        "storage-password",
        "a password in TUNE_STORAGE's form for MySQL",
        4,
        "cannot use the storage",
        ("report", "X", "--storage", "mysql+pymysql://u:PWSECRET@127.0.0.1:1/db", "--study", "s"),
        hides="PWSECRET",
    ),
    Case(
        "storage-password",
        "a password in percent signs",
        4,
        "cannot use the storage",
        ("report", "X", "--storage", "postgresql://u:p%40PWSECRET@127.0.0.1:1/db", "--study", "s"),
        hides="PWSECRET",
    ),
    Case(
        "storage-password",
        "no URL at all",
        4,
        "cannot use the storage",
        ("report", "X", "--storage", "PWSECRET", "--study", "s"),
        hides="PWSECRET",
    ),
    Case("stored-internal", "a folder for study.db", 2, "", ("report", "good2"), {"good2/study.db/x": ""}),
    Case("stored-internal", "no folder", 2, "nowhere", ("export", "nowhere")),
    Case(
        "gate-reference",
        "an output that is a file",
        4,
        "D",
        ("gate", "good", "--baseline", "good/recommendation.json", "--measure", "--output", "D"),
        {"D": "x"},
        stays="D",
    ),
)
