"""A spec that is wrong is answered with file, line, key and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.errors import SpecError
from tuner.spec.limited import limited_percentiles
from tuner.spec.load import SloLimit
from tuner.spec.reading import LoadedSpec, load_spec

GOOD = """\
version: 1
service:
  name: example
  command: [python, server.py, --port, "{port}", --batch, "{batch_size}"]
  env: {OMP_NUM_THREADS: 4}
  ready: {path: /healthz, timeout: 2m}
request: {path: /predict, json: {text: hello}}
slo: {p99: 50ms, error_rate: 0.1%}
space:
  preset: cpu-serving
  parameters:
    batch_size: [1, 2, 4, 8]
    workers: {low: 1, high: 4}
  constraints: ["workers <= cpu_cores"]
prices: {cpu_core_hour: 0.04, memory_gib_hour: $0.005, gpu_hour: {T4: 0.35, A100: {price: 3.67, memory: 80Gi}}}
load: {max_trial: 90s}
"""


def load(folder: Path, text: str) -> LoadedSpec:
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return load_spec(path)


def problem(folder: Path, text: str) -> str:
    with pytest.raises(SpecError) as caught:
        load(folder, text)
    message = str(caught.value)
    assert 1 <= len(message.splitlines()) <= 3
    return message


@pytest.mark.parametrize(
    ("slo", "limit_ms"),
    [("p95: 20ms, p99: 50ms", 50), ("p95: 20ms", 20), ("p99.9: 90ms, p95: 20ms", 90), ("p50: 9ms", None)],
)
def test_the_limit_that_a_p99_is_held_against(tmp_path: Path, slo: str, limit_ms: float | None) -> None:
    assert load(tmp_path, GOOD.replace("p99: 50ms", slo)).p99_limit_ms == limit_ms


@pytest.mark.parametrize(
    ("slo", "names"),
    [
        ("p99.9: 90ms, p95: 20ms", ["p95", "p99.9"]),
        ("e2e: {p90: 1s}, ttft: {p95: 1s}, tpot: {p50: 9ms}", ["p90", "first token p95", "per token p50"]),
        ("goodput: {ttft: 1s}, tokens_per_second: {p95: 20}", []),
    ],
)
def test_the_percentiles_that_are_shown_of_every_trial(tmp_path: Path, slo: str, names: list[str]) -> None:
    text = GOOD.replace("json: {text: hello}}", "json: {text: hello, stream: true}, stream: openai}")
    assert [one.name for one in limited_percentiles(load(tmp_path, text.replace("p99: 50ms", slo)))] == names


def test_a_good_spec_has_its_quantities_in_units(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD)
    spec = loaded.spec
    assert spec.slo is not None
    assert spec.slo.limits == (SloLimit("latency", 99.0, 0.05),)
    assert spec.slo.error_rate == pytest.approx(0.001)
    assert spec.service.ready.timeout == 120
    assert spec.service.env == {"OMP_NUM_THREADS": "4"}
    assert spec.prices.gpu_hour["A100"].memory == 80 * 2**30
    assert spec.prices.memory_gib_hour == 0.005
    assert loaded.space.names == ("cpu_cores", "threads", "batch_size", "workers")
    assert loaded.folder == tmp_path.resolve()


def test_a_whole_number_with_a_point_is_a_whole_number_wherever_a_value_stands(tmp_path: Path) -> None:
    text = GOOD.replace("batch_size: [1, 2, 4, 8]", "batch_size: [1.0, 2.0, 4]\n    scale: [1.0, 4.5]")
    more = "current: {cpu_cores: 1.0, batch_size: 2.0, workers: 1.0, threads: 1.0, scale: 4.5}\n"
    same = "{cpu_cores: 1, batch_size: 2.0, workers: 1, threads: 1, scale: 1}"
    quality = f"quality: {{answer: $.label, reference: {same}}}\n"
    spec = load(tmp_path, text + more + quality).spec
    assert spec.current is not None
    assert spec.quality is not None
    assert spec.quality.reference is not None
    assert [str(value) for value in spec.space.parameters["batch_size"].choices or ()] == ["1", "2", "4"]
    assert [str(value) for value in spec.current.values()] == ["1", "2", "1", "1", "4.5"]
    assert str(spec.quality.reference["batch_size"]) == "2"


def test_a_parameter_named_like_a_role_has_it(tmp_path: Path) -> None:
    roles = {parameter.name: parameter.role for parameter in load(tmp_path, GOOD).space.parameters}
    assert roles["batch_size"] == "batch_size"
    without = load(tmp_path, GOOD.replace("batch_size: [1, 2, 4, 8]", "batch_size: {choices: [1], role: none}"))
    assert {parameter.name: parameter.role for parameter in without.space.parameters}["batch_size"] is None


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("slo: {p99: 50ms", "slo: {p99: 50", 8, "slo.p99: no unit in \"50\"; use us, ms, s, m or h"),
        ("0.1%}", "0.001}", 8, "slo.error_rate: no % in \"0.001\""),
        ("{p99: 50ms", "{ttft: 400ms, p99: 50ms", 8,
         "slo.ttft: holds keys of its own: p50, p90, p95, p99, p99.9, not '400ms'"),
        ("service:\n", "sevice:\n", 2, "sevice: unknown key; did you mean service?"),
        ("timeout: 2m", "timout: 2m", 6, "service.ready.timout: unknown key; did you mean timeout?"),
        ("version: 1", "version: 2", 1, "version: "),
        ("{OMP_NUM_THREADS: 4}", "{OMP THREADS: 4}", 5, "service.env: 'OMP THREADS' is not the name of a variable: "
         "letters, digits, '_', '-' and '.', no digit first"),
        ("{OMP_NUM_THREADS: 4}", "{A=B: 4}", 5, "service.env: 'A=B' is not the name of a variable"),
        ("  name: example\n", "", 2, "service.name: is missing"),
        ("[python, server.py, --port, \"{port}\", --batch, \"{batch_size}\"]", "python server.py", 4,
         "a command is a list, since no shell reads it: [python, server.py]"),
        ("preset: cpu-serving", "preset: cpu-servin", 10, "no preset is named 'cpu-servin'"),
        ("workers <= cpu_cores", "worker <= cpu_cores", 14, "names worker, which is not a parameter"),
        ("workers <= cpu_cores", "workers > 100", 14, "no configuration satisfies all the constraints"),
        ("workers <= cpu_cores", "import os", 14, "is not an expression"),
        ("workers <= cpu_cores", "workers > 1 && cpu_cores > 1", 14, "2 * cpu_cores'; write and, or, not"),
        ("workers <= cpu_cores", "workers = cpu_cores", 14, "2 * cpu_cores'; write == for equal"),
        ("{low: 1, high: 4}", "1, 2, 4", 13, "space.parameters.workers: is a list of choices, as in [1, 2, 4], or a "
         "mapping with choices, or with low and high, not '1, 2, 4'"),
        ("timeout: 2m", "port: 8000", 6, "service.ready.port: unknown key; there are path, timeout"),
        ("version: 1\n", "version: 1\nobjective: {confidence: 95}\n", 2,
         "objective.confidence: no % in \"95\"; write 95% (SPEC:2)"),
        ("json: {text: hello}", "json: {text: hello}, method: post", 7, "not 'post'; did you mean POST?"),
        ("workers <= cpu_cores", "workers / 0 > 1", 14, "cannot be evaluated"),
        ("{low: 1, high: 4}", "{low: 4, high: 1}", 13, "needs both low and high"),
        ("{low: 1, high: 4}", "{choices: []}", 13, "space.parameters.workers.choices"),
        ("{low: 1, high: 4}", "{choices: [1, 1]}", 13, "names 1 more than once"),
        ("{low: 1, high: 4}", "{choices: [.nan]}", 13, "finite"),
        ("cpu_core_hour: 0.04", "cpu_core_hour: -1", 15, "prices.cpu_core_hour"),
        ("max_trial: 90s", "max_trial: 0s", 16, "load.max_trial: '0s' must be above 0"),
        ("json: {text: hello}", "json: {text: hello}, body: x", 7, "json and body exclude each other"),
        ("load: {max_trial: 90s}", "load: {max_trial: 90s}\nrunner: {type: replay}", 17, "needs table"),
        ("load: {max_trial: 90s}", "current: {cpu_cores: 16, threads: 1, batch_size: 1, workers: 1}", 16,
         "cpu_cores=16 is not among its choices"),
        ("load: {max_trial: 90s}", "objective: {minimize: cost_per_hour}", 16, "needs target_qps"),
        ("load: {max_trial: 90s}", "objective: {minimize: cost_per_hour, maximize: capacity_qps}", 16, "exactly one"),
        ("version: 1", "version: 1\nversion: 1", 2, "not valid YAML"),
        ("version: 1", "version: [1", 2, "not valid YAML"),
        ("{text: hello}", "!!python/object/apply:os.system [echo]", 7, "is not allowed"),
        ("prices: {", "prices: catalogue.yaml #", 15, "there is no price file"),
    ],
)  # fmt: skip
def test_an_error_names_file_line_and_key(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    assert old in GOOD
    message = problem(tmp_path, GOOD.replace(old, new))
    assert said in message.replace(f"{tmp_path}/spec.yaml", "SPEC")
    assert f"{tmp_path}/spec.yaml:{line}" in message


def test_several_errors_are_listed_up_to_three_lines(tmp_path: Path) -> None:
    message = problem(tmp_path, GOOD.replace("p99: 50ms", "p99: 5, p95: 4, p90: 3, p50: 2"))
    assert "more problems" in message.splitlines()[2]


@pytest.mark.parametrize("text", ["", "- 1\n", "just text", "\x00", "a: &a [*a]\n"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert str(tmp_path) in problem(tmp_path, text)


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    assert "aliases multiplying" in problem(tmp_path, bomb)


def test_files_that_are_not_there_or_not_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is no file"):
        load_spec(tmp_path / "missing.yaml")
    with pytest.raises(SpecError, match="is a folder"):
        load_spec(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="not UTF-8"):
        load_spec(tmp_path / "binary.yaml")


def test_prices_may_lie_in_a_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text("cpu_core_hour: 0.07\n", encoding="utf-8")
    start = GOOD.index("prices:")
    end = GOOD.index("\n", start)
    loaded = load(tmp_path, GOOD[:start] + "prices: prices.yaml" + GOOD[end:])
    assert loaded.spec.prices.cpu_core_hour == 0.07


def test_keys_that_are_merged_in_stand_where_they_are_merged(tmp_path: Path) -> None:
    text = GOOD.replace("slo: {p99: 50ms, error_rate: 0.1%}", "slo:\n  <<: {error_rate: 0.1%}\n  p99: 50ms")
    assert "<<" in text
    loaded = load(tmp_path, text)
    assert loaded.spec.slo is not None
    assert loaded.spec.slo.error_rate == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("error_rate: 0.1%", "eror_rate: 0.1%", "did you mean error_rate?"),
        ("batch_size: ", "big: {low: 1, high: 100000000000000000000}\n    batch_size: ", "has a number beyond"),
        ("batch_size: ", "odd: [1, true, x]\n    batch_size: ", "truth values and numbers that are the same"),
        ("version: 1\n", "", "spec.yaml:1)"),
    ],
)
def test_more_that_is_said_in_a_line(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in GOOD
    assert said in problem(tmp_path, GOOD.replace(before, after, 1))


@pytest.mark.parametrize(
    ("objective", "meant"),
    [
        ("maximize: qps", "capacity_qps"), ("maximize: Capacity_QPS", "capacity_qps"),
        ("minimize: cost", "cost_per_million_requests"), ("minimize: cost_per_hr", "cost_per_hour"),
        ("maximize: requests_per_second", "capacity_qps"), ("maximize: throughput", "capacity_qps"),
        ("maximize: tokens_per_s", "tokens_per_second"), ("maximize: output_tps", "tokens_per_second"),
        ("pareto: [cost_per_million_reqs]", "cost_per_million_requests"), ("pareto: [rps]", "capacity_qps"),
        ("pareto: [p99, cost_per_hour]", "p99_ms"), ("maximize: speed", None),
    ],
)  # fmt: skip
def test_a_metric_that_is_nearly_one_is_told_which(tmp_path: Path, objective: str, meant: str | None) -> None:
    said = problem(tmp_path, GOOD.replace("slo: {", f"objective: {{{objective}}}\nslo: {{", 1))
    assert "\n" not in said
    assert said.partition("; did you mean ")[2].partition("?")[0] == (meant or "")


def test_what_stands_where_a_secrets_variable_belongs_is_not_repeated(tmp_path: Path) -> None:
    message = problem(tmp_path, GOOD.replace("request: {", "request: {auth: {bearer: sk-live-12345}, ", 1))
    assert "request.auth.bearer" in message
    assert "sk-live" not in message


@pytest.mark.parametrize(("slo", "limit"), [
    ("{ttft: {p95: 400ms}}", (400.0, 95.0)),
    ("{ttft: {p50: 100ms, p99: 900ms}}", (900.0, 99.0)),
    ("{goodput: {at_least: 97%, ttft: 300ms, tpot: 40ms}}", (300.0, 97.0)),
    ("{ttft: {p95: 400ms}, goodput: {at_least: 99%, ttft: 500ms}}", (400.0, 95.0)),
    ("{ttft: {p50: 100ms}}", None),
    ("{p99: 50ms}", None),
])  # fmt: skip
def test_the_limit_on_the_first_token_is_known_where_the_slo_has_one(
    tmp_path: Path, slo: str, limit: tuple[float, float] | None
) -> None:
    text = GOOD.replace("json: {text: hello}}", "json: {text: hello}, stream: openai}")
    found = load(tmp_path, text.replace("slo: {p99: 50ms, error_rate: 0.1%}", f"slo: {slo}"))
    assert found.ttft_limit == (None if limit is None else pytest.approx(limit))
