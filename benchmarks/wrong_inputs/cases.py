"""The inputs as they came: from bug reports, people's own files, and a review as an attacker."""

from __future__ import annotations

from benchmarks.wrong_inputs.trying import Case, baseline, replay, server, spec, traffic, warm_start

_LOAD = "load: {max_trial: 60s, arrivals: trace, trace: t.csv}\n"
_DAYS = "time,requests\n2016010100,36000\n2016010101,72000\n2016010102,108000\n"
_ANALYZER = (
    "Model,Batch,Concurrency,Model Config Path,Instance Group,Max Batch Size,Satisfies Constraints,"
    "Throughput (infer/sec),p99 Latency (ms)\n"
)
_BATCHES = "batch_size,instances,capacity_qps,p99_ms,price_per_hour\n1,1,100,7,0.1\n1,2,150,7,0.2\n2,1,140,9,0.1\n2,2,210,9,0.2\n"
_BATCHED = """\
version: 1
service: {name: addsub}
slo: {p99: 20ms, error_rate: 1%}
space: {parameters: {batch_size: [1, 2], instances: [1, 2]}}
runner: {type: replay, table: table.csv}
"""
_TRITON = (
    "version: 1\nservice: {name: m, server: triton, model: {name: m, path: models}}\nslo: {p99: 50ms}\nprices: aws\n"
)
_ENSEMBLE = 'name: "m"\nplatform: "ensemble"\nmax_batch_size: 8\nensemble_scheduling { step [ { model_name: "part" model_version: -1 } ] }\n'
_MLSERVER = """\
version: 1
service: {name: m, server: mlserver, model: {name: m, path: models, inputs: {predict: {datatype: FP32, shape: [-1, 4]}}}}
slo: {p99: 50ms}
prices: aws
"""
_FIGURES = '{"schema": 1, "service": "rep", "configuration": {"cpu_cores": 4, "threads": 2}, "capacity_qps": {"value": %s, "low": 1, "high": 2}, "p99_ms": {"value": 22, "low": 22, "high": 22}, "cost_per_hour": 0.16, "cost_per_million_requests": 0.9, "meets_slo": true}'


def _analyzer(kind: str, what: str, rows: str, code: int, says: str) -> Case:
    case = warm_start(kind, what, _ANALYZER + rows, code, says)
    files = {**case.files, "spec.yaml": _BATCHED, "table.csv": _BATCHES}
    return Case(kind, what, code, says, case.words, files)


CASES: tuple[Case, ...] = (
    spec(
        "too-short-trial",
        "load.max_trial of 4 s",
        server(new="load: {max_trial: 4s}\n"),
        0,
        r"4 s is too short to decide",
    ),
    spec(
        "slo-above-timeout",
        "request.timeout below the limit",
        server("path: /}\nslo: {p99: 50ms}", "path: /, timeout: 10s}\nslo: {p99: 30s}"),
        2,
        r"timeout.*\(spec.yaml:3\)",
    ),
    spec("slo-above-timeout", "a limit of 30 s alone", server("50ms", "30s"), 0, "is valid"),
    baseline(
        "gate-nan", "a baseline of NaN", _FIGURES % "NaN", 2, r"capacity_qps.value is nan; it must be a finite number"
    ),
    baseline(
        "gate-nan",
        "a baseline of Infinity",
        _FIGURES % "Infinity",
        2,
        r"capacity_qps.value is inf; it must be a finite",
    ),
    traffic("traffic-hour-stamps", "hours as 2016010100", _DAYS, 0, r"from 2016-01-01 00:00 to 2016-01-01 03:00 UTC"),
    traffic(
        "traffic-hour-stamps",
        "days as 20240512",
        "date,requests\n20240512,864000\n20240513,1728000\n",
        0,
        r"from 2024-05-12 00:00 to 2024-05-14 00:00 UTC",
    ),
    spec(
        "trace-rate-column-ignored",
        "load.trace of time,requests",
        server(new=_LOAD),
        0,
        r"its rates take 180 s",
        t__csv="time,requests\n0,300\n60,3000\n120,300\n",
    ),
    spec(
        "trace-rate-column-ignored",
        "load.trace of time,qps",
        server(new=_LOAD),
        0,
        r"its rates take 180 s",
        t__csv="time,qps\n0,5\n60,50\n120,5\n",
    ),
    spec(
        "trace-rate-column-ignored",
        "load.trace of 'time, rate'",
        server(new=_LOAD),
        0,
        r"its rates take 180 s",
        t__csv="time, rate\n0, 5\n60, 50\n120, 5\n",
    ),
    traffic(
        "trace-naive-dates-local",
        "the hour that a change of clocks leaves out",
        "time,rate\n2024-03-31 01:30:00,5\n2024-03-31 02:30:00,6\n2024-03-31 03:30:00,6\n",
        0,
        r"from 2024-03-31 01:30 to 2024-03-31 04:30 UTC",
    ),
    warm_start(
        "warmstart-errors-ignored",
        "AIPerf, half of the requests failed",
        '{"aiperf_version": "0.7.0", "request_throughput": {"unit": "requests/sec", "avg": 5.69}, "request_latency": {"unit": "ms", "avg": 5, "p50": 5, "p99": 9}, "request_count": {"avg": 336.0}, "error_request_count": {"avg": 336.0}, "request_error_rate": {"unit": "%", "avg": 50.0}}',
        2,
        r"left out 1: 1 because more than 1.0% of their requests failed",
        "w.json",
    ),
    _analyzer(
        "warmstart-model-analyzer",
        "another model's rows",
        "addsub,1,2,addsub_config_1,1:CPU,2,Yes,110.0,5.6\nother,1,16,other_config_1,1:CPU,2,Yes,9100.0,1.6\n",
        0,
        r"read 2 trials, left out 1: 1 because they are of the model other",
    ),
    _analyzer(
        "warmstart-model-analyzer",
        "a blank cell",
        "addsub,1,2,addsub_config_1,1:CPU,2,Yes,110.0,5.6\naddsub,1,4,addsub_config_1,1:CPU,2,No,,\n",
        0,
        r"left out 1: 1 because Throughput \(infer/sec\) is empty",
    ),
    _analyzer(
        "warmstart-model-analyzer",
        "an ensemble's parts",
        'addsub,1,8,"a_config_1: x, y","1:GPU,2:GPU","0,0",Yes,2865.9,3.7\n',
        2,
        r"left out 1: 1 because several models were measured at once",
    ),
    _analyzer(
        "warmstart-model-analyzer",
        "instances outside of the space",
        "addsub,1,16,addsub_config_6,8:GPU,2,Yes,10077.3,2.2\n",
        2,
        r"left out 1: 1 because their configuration is not in the space",
    ),
    spec(
        "triton-ensemble-and-sequence",
        "an ensemble",
        _TRITON,
        2,
        r"m is an ensemble.*tune one of its parts: part \(spec.yaml:2\)",
        **{"models/m/config__pbtxt": _ENSEMBLE},
    ),
    spec(
        "mlserver-parallel-workers",
        "parallel_workers in the model's file",
        _MLSERVER,
        2,
        r"model-settings.json sets parallel_workers.*\(spec.yaml:2\)",
        **{"models/m/model-settings__json": '{"name": "m", "implementation": "x.Y", "parallel_workers": 0}'},
    ),
    spec(
        "mlserver-parallel-workers",
        "a fixed grpc_port in settings.json",
        _MLSERVER,
        2,
        r"settings.json sets grpc_port.*\(spec.yaml:2\)",
        **{
            "models/m/model-settings__json": '{"name": "m", "implementation": "x.Y"}',
            "models/settings__json": '{"grpc_port": 8081}',
        },
    ),
    spec(
        "port-not-told",
        "a command without {port}",
        server('"{port}"', '"8080"'),
        2,
        r"\{port\} is in no command, env or file.*\(spec.yaml:2\)",
    ),
    spec(
        "header-not-latin1",
        "curly quotes in a header",
        server("path: /", 'path: /, headers: {X-Title: "“größe” 大"}'),
        2,
        r"not in Latin-1.*\(spec.yaml:3\)",
    ),
    spec(
        "spec-internal",
        "!!bool maybe",
        replay(new="quality: !!bool maybe\n"),
        2,
        r"cannot be read as what its tag says.*\(spec.yaml:8\)",
    ),
    spec(
        "spec-internal",
        "0x_",
        replay(new="quality: 0x_\n"),
        2,
        r"cannot be read.*\(spec.yaml:8\)",
    ),
    spec(
        "spec-internal",
        "a merge cycle",
        replay(new="quality: &p {<<: *p}\n"),
        2,
        r"alias within its own anchor \(spec.yaml:8\)",
    ),
    spec(
        "spec-internal",
        "NUL in a path",
        server("path: /", 'path: /, dataset: "a\\0b"'),
        2,
        r"request.dataset: .* holds a NUL character.*\(spec.yaml:3\)",
    ),
    spec(
        "spec-internal",
        "an escaped emoji in halves",
        server("path: /", 'path: /, method: POST, body: "\\ud83d\\ude00"'),
        0,
        "is valid",
    ),
    spec(
        "spec-internal", "half an emoji", server("path: /", 'path: /, method: POST, body: "\\ud83d"'), 2, r"spec.yaml:3"
    ),
    spec(
        "spec-internal",
        "a path of 1,000 letters",
        server("path: /", f"path: /, dataset: {'a' * 1000}"),
        2,
        r"request.dataset.*\(spec.yaml:3\)",
    ),
    spec(
        "spec-internal",
        "/dev/zero as a template",
        server('"{port}"]', '"{port}"], files: {a: /dev/zero}'),
        2,
        r"does not lie in the spec's folder.*\(spec.yaml:2\)",
    ),
    spec(
        "spec-hang",
        "a constraint that nothing of 10^9 satisfies",
        replay(
            "[1, 2, 4], threads: [1, 2]}}",
            '[1, 2], seed: {low: 0, high: 1000000000}}, constraints: ["seed % 1000 == 1001"]}',
        ),
        2,
        r"no configuration satisfies all the constraints.*\(spec.yaml:4\)",
    ),
    spec(
        "export-traversal",
        "files of ../../",
        server('"{port}"]', '"{port}"], files: {../../escaped: server.py}'),
        2,
        r"leads out of its folder.*\(spec.yaml:2\)",
    ),
    spec(
        "export-traversal",
        "/etc/passwd as a template",
        server('"{port}"]', '"{port}"], files: {x: /etc/passwd}'),
        2,
        r"does not lie in the spec's folder.*\(spec.yaml:2\)",
    ),
    Case(
        "gate-reference",
        "a folder reference/ that is not the gate's",
        0,
        r"gate passed",
        ("gate", "good", "--baseline", "good/recommendation.json", "--measure", "--output", "D"),
        {"D/reference/precious": "x"},
        stays="D/reference/precious",
    ),
    Case(
        "storage-password",
        "a password in a URL's query",
        4,
        "cannot use the storage",
        ("report", "X", "--storage", "postgresql://127.0.0.1:1/db?user=u&password=PWSECRET", "--study", "s"),
        hides="PWSECRET",
    ),
    Case(
        "storage-password",
        "a password with an unescaped @",
        4,
        "cannot use the storage",
        ("report", "X", "--storage", "postgresql://u:pw@PWSECRET@127.0.0.1:1/db", "--study", "s"),
        hides="PWSECRET",
    ),
    Case(
        "stored-internal",
        "a study.db that is none",
        4,
        "study.db",
        ("report", "good"),
        {"good/study.db": b"SQLite format 3\0" + b"\xff" * 5000},
    ),
    Case("stored-internal", "an empty study.db", 2, r"", ("plan", "good", "--qps", "100"), {"good/study.db": b""}),
    Case("planner", "--qps 1e9", 0, r"replicas", ("plan", "good", "--qps", "1e9")),
)
