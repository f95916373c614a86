"""Services that call one another: what is refused, what each is told, where the time goes, what the report shows."""

from __future__ import annotations

import hashlib
import math
import sys
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from loadtest import StageTimes
from results import ChainRecord, Estimate, StageRecord
from results.exports import NotExportable, exported
from results.report.chain import chain_picture
from runners import Placement
from tests.conftest import Tune, recommendation
from tuner.errors import SpecError
from tuner.launch.checks.before_launch import check, warnings
from tuner.launch.render import rendered_texts, substitute
from tuner.outcome.deployable import _AtCapacity, _deployable
from tuner.spec.chain import Chain
from tuner.spec.reading import LoadedSpec, load_spec
from tuner.trial.chain import bottleneck_of, own_time
from tuner.trial.evidence import gather

STAGE = Path(__file__).parent.parent.parent / "servers" / "stage.py"


def stage(name: str, service_ms: int, workers: int, *, following: str | None, place: str) -> str:
    asks = "" if following is None else f', --next, "{{url:{following}}}"'
    return f"""\
  - service:
      name: {name}
      command: [{sys.executable}, {STAGE}, --port, "{{port}}", --workers, "{{workers}}"{asks}]
      env: {{SERVICE_MS: "{service_ms}"}}
      ready: {{path: /healthz, timeout: 20s}}
    request: {{path: /work, json: {{x: 1}}}}
    {place}
    space: {{parameters: {{workers: [{workers}]}}}}
"""


# Listed with the last first: the order is that of `after`, not of the file.
SPEC = f"""\
version: 1
services:
{stage("rank", 3, 2, following=None, place="after: [detect]")}\
{stage("decode", 4, 4, following="detect", place="slo: {p99: 100ms}")}\
{stage("detect", 10, 1, following="rank", place="after: [decode]")}\
objective: {{maximize: capacity_qps, final: 0}}
load: {{max_trial: 15s, max_warmup: 2s}}
"""


def write(folder: Path, text: str = SPEC) -> Path:
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_entry_comes_first_and_each_is_told_those_that_it_calls(tmp_path: Path) -> None:
    loaded = load_spec(write(tmp_path))
    check(loaded)
    assert loaded.chain is not None
    assert loaded.chain.names == ("decode", "detect", "rank")
    assert loaded.slo_texts == ("p99 <= 100 ms",)
    assert loaded.p99_limit_ms == 100
    assert set(loaded.space.names) == {"decode_workers", "detect_workers", "rank_workers"}
    at, urls = Placement("127.0.0.1", 7001, "files"), {"detect": "http://127.0.0.1:7002"}
    command = rendered_texts(loaded.colocated[0].loaded, {"workers": 4}, at, urls).command
    assert command[-2:] == ("--next", "http://127.0.0.1:7002")
    exported = rendered_texts(loaded.colocated[1].loaded, {"workers": 1}, at).command
    assert exported[-1] == "http://rank:80"  # the Service of a cluster


def test_an_exported_stage_is_told_the_name_that_the_next_one_has_in_a_cluster(tmp_path: Path) -> None:
    loaded = load_spec(write(tmp_path, SPEC.replace("detect", "Detect_it.v2")))
    seen = _AtCapacity(Estimate.exactly(10.0), None, None, confirmed=False)
    caller, called = (_deployable(one.loaded, {"workers": 4}, seen, None) for one in loaded.colocated[:2])
    assert called.name == "detect-it-v2"
    assert caller.program.command[-1] == f"http://{called.name}:80"


def exported_chain(loaded: LoadedSpec, format_name: str) -> dict[str, str]:
    seen = _AtCapacity(Estimate.exactly(10.0), None, None, confirmed=False)
    stages = {
        one.name: _deployable(one.loaded, {"workers": 4}, seen, None, format_name=format_name)
        for one in loaded.colocated
    }
    return exported(stages, format_name)


def test_an_exported_chain_is_one_project_of_compose_whose_entry_alone_is_published(tmp_path: Path) -> None:
    loaded = load_spec(write(tmp_path))
    files = exported_chain(loaded, "compose")
    services = YAML(typ="safe", pure=True).load(files["compose.yaml"])["services"]
    assert {name: one.get("ports") for name, one in services.items()} == {
        "decode": ["127.0.0.1:8000:8000"], "detect": None, "rank": None
    }  # fmt: skip
    assert services["decode"]["entrypoint"][-1] == "http://detect:8000", "where it listens"
    assert set(files) == {"compose.yaml"}


def test_a_charts_values_call_the_next_stage_at_the_port_of_its_charts_service(tmp_path: Path) -> None:
    loaded = load_spec(write(tmp_path))
    files = exported_chain(loaded, "helm-values")
    read = YAML(typ="safe", pure=True).load
    caller, called = read(files["decode/values.yaml"]), read(files["detect/values.yaml"])
    assert caller["command"][-1] == f"http://{called['fullnameOverride']}:{called['service']['port']}"


def test_a_stage_in_knative_calls_the_next_by_a_host_that_its_gateway_knows(tmp_path: Path) -> None:
    files = exported_chain(load_spec(write(tmp_path)), "kserve")
    text = files["decode/decode.yaml"]
    [caller], [called] = (
        YAML(typ="safe", pure=True).load_all(files[f"{one}/{one}.yaml"]) for one in ("decode", "detect")
    )
    [server] = caller["spec"]["predictor"]["containers"]
    assert server["command"][-1] == f"http://{called['metadata']['name']}-predictor.NAMESPACE:80"
    assert "NAMESPACE in the addresses of what it calls stands for the namespace" in text.splitlines()[0]
    assert "NAMESPACE" not in files["rank/rank.yaml"], "it calls nothing"


def test_a_stage_in_kubedl_listens_where_its_service_leads(tmp_path: Path) -> None:
    text = SPEC.replace("service:\n", "service:\n      image: nvcr.io/nvidia/tritonserver:24.01-py3\n")
    files = exported_chain(load_spec(write(tmp_path, text)), "kubedl")
    [caller], [called] = (
        YAML(typ="safe", pure=True).load_all(files[f"{one}/{one}.yaml"]) for one in ("decode", "detect")
    )
    [server], [next_one] = (one["spec"]["predictors"][0]["template"]["spec"]["containers"] for one in (caller, called))
    assert server["command"][-1] == "http://detect:8080"
    assert next_one["ports"][0]["containerPort"] == 8080
    assert next_one["command"][3] == "8080", "as its command says"


def test_a_port_of_the_specs_is_not_kubedls_and_one_that_the_image_fixed_is_refused(tmp_path: Path) -> None:
    text = SPEC.replace("service:\n", "service:\n      image: nvcr.io/nvidia/tritonserver:24.01-py3\n")
    text = text.replace("services:\n", "runner: {type: kubernetes, kubernetes: {port: 9000}}\nservices:\n", 1)
    files = exported_chain(load_spec(write(tmp_path, text)), "kubedl")
    [called] = YAML(typ="safe", pure=True).load_all(files["detect/detect.yaml"])
    [server] = called["spec"]["predictors"][0]["template"]["spec"]["containers"]
    assert (server["command"][3], server["ports"][0]["containerPort"]) == ("8080", 8080)
    assert "containerPort: 9000" in exported_chain(load_spec(write(tmp_path, text)), "kubernetes")["detect/detect.yaml"]
    fixed = load_spec(write(tmp_path, text.replace("{port}", "9000")))
    assert "containerPort: 9000" in exported_chain(fixed, "kubernetes")["detect/detect.yaml"]
    with pytest.raises(NotExportable, match="lead to port 8080, and decode listens on 9000: it is not told another"):
        exported_chain(fixed, "kubedl")
    same = load_spec(write(tmp_path, text.replace("{port}", "8080").replace("9000", "8080")))
    assert "containerPort: 8080" in exported_chain(same, "kubedl")["detect/detect.yaml"]


def test_a_stage_of_a_ray_cluster_is_called_at_its_port_by_a_host_that_is_for_the_reader(tmp_path: Path) -> None:
    text = SPEC.replace(f"{sys.executable}, {STAGE}", "serve, run, app:app").replace('--next, "{url', '"next={url')
    read = exported_chain(load_spec(write(tmp_path, text)), "ray-serve")["decode/serve.yaml"]
    assert YAML(typ="safe", pure=True).load(read)["applications"][0]["args"] == {"next": "http://detect:8000"}
    assert "the hosts in the addresses of what it calls stand for those of their Ray clusters" in read.splitlines()[0]


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("detect", "detect-tuned-detect"),
        ("detect-every-face-in-the-picture", "seldon-e0fcfa3db943159a35ccaa389670d157"),  # of 71 letters
    ],
)
def test_a_stage_in_seldon_calls_the_service_of_the_next_ones_container(
    tmp_path: Path, name: str, service: str
) -> None:
    files = exported_chain(load_spec(write(tmp_path, SPEC.replace("detect", name))), "seldon")
    [caller], [called] = (YAML(typ="safe", pure=True).load_all(files[f"{one}/{one}.yaml"]) for one in ("decode", name))
    [predictor] = called["spec"]["predictors"]
    [pod] = predictor["componentSpecs"]
    [container] = pod["spec"]["containers"]
    whole = f"{called['metadata']['name']}-{predictor['name']}-{container['name']}"  # as Seldon's operator names it
    assert service in (whole, f"seldon-{hashlib.md5(whole.encode()).hexdigest()}")
    [port] = container["ports"]
    [server] = caller["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"]
    assert server["command"][-1] == f"http://{service}:{port['containerPort']}"


def test_an_address_is_with_and_without_its_scheme_and_plain_text_outside_a_chain() -> None:
    values = {"url:rank": "http://127.0.0.1:7003", "address:rank": "127.0.0.1:7003"}
    assert substitute("{address:rank} {url:rank} {{url:rank}}", values) == (
        "127.0.0.1:7003 http://127.0.0.1:7003 {url:rank}"
    )
    assert substitute("{url:rank} {{url:rank}} {port}", {"port": "1"}) == "{url:rank} {{url:rank}} 1"


@pytest.mark.parametrize(
    ("before", "after", "said", "line"),
    [
        (
            "after: [decode]",
            "after: [decod]",
            "services.2.after.0: no service is called decod; did you mean decode?",
            25,
        ),
        ("after: [decode]", "after: [detect]", "services.2.after.0: detect cannot come after itself", 25),
        (
            "after: [decode]",
            "after: [rank]",
            "services.0.after: rank after detect after rank: a chain has no circle; remove one of these",
            9,
        ),
        (
            "    after: [decode]\n",
            "",
            "services.2: decode and detect come after no other service, and a chain has one entry",
            19,
        ),
        (
            "    after: [decode]\n",
            "    after: [decode]\n    entry: true\n",
            "services.2.entry: the entry comes after",
            26,
        ),
        (
            "    after: [decode]\n",
            "    after: [decode]\n    share: 50%\n",
            "services.2.share: a chain's requests all",
            26,
        ),
        (
            "    after: [decode]\n",
            "    after: [decode]\n    slo: {p99: 9ms}\n",
            "services.2.slo: a chain has one SLO",
            26,
        ),
        ("    slo: {p99: 100ms}\n", "", "services.1.slo: is missing", 11),
        ("{url:rank}", "{url:decode}", "{url:decode}: decode does not come after detect; write after: [detect] in", 21),
        (
            "{url:rank}",
            "{address:detect}",
            "{address:detect} is this service's own address; write {host} and {port}",
            21,
        ),
        ("{url:rank}", "{url:ranks}", "{url:ranks}: no service is called ranks; did you mean rank?", 21),
        (
            "{url:rank}",
            "http://rank",
            "services.0.after: rank comes after detect, whose command, env and files have no",
            9,
        ),
        (
            "version: 1\n",
            "version: 1\nrunner: {type: attach, url: 'http://127.0.0.1:9'}\n",
            "runner.type: attach is for one service",
            2,
        ),
    ],
)
def test_what_is_no_chain_is_refused_with_its_line(
    tmp_path: Path, tune_in_process: Tune, before: str, after: str, said: str, line: int
) -> None:
    assert before in SPEC
    done = tune_in_process("validate", write(tmp_path, SPEC.replace(before, after, 1)))
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert f"spec.yaml:{line})" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3


def test_an_entry_alone_makes_no_chain(tmp_path: Path) -> None:
    text = SPEC.replace("    after: [decode]\n", "    entry: true\n").replace("    after: [detect]\n", "")
    with pytest.raises(SpecError, match="come after no other service"):
        load_spec(write(tmp_path, text))


def test_a_stage_without_a_request_is_said_to_have_no_time_of_its_own(tmp_path: Path) -> None:
    request = "    request: {path: /work, json: {x: 1}}\n"
    loaded = load_spec(write(tmp_path, SPEC.replace(request, "", 1)))
    check(loaded)
    assert any("rank has no request, so its time counts as its caller's" in text for text in warnings(loaded))


def test_the_report_draws_boxes_of_which_no_name_is_markup() -> None:
    from results.report.report import template_environment

    stages = (
        StageRecord(name="<b>a</b>", calls=("b",), service_ms=10, queue_ms=30, slo_share=0.4),
        StageRecord(name="b", service_ms=10, queue_ms=0, slo_share=0.1),
    )
    chain = ChainRecord(stages=stages, rate_qps=20, whole_ms=50, limit_ms=100, bottleneck="<b>a</b>")
    picture = chain_picture(chain)
    assert picture is not None
    assert [(box.service, box.queue, box.is_bottleneck) for box in picture.boxes] == [(40, 120, True), (40, 0, False)]
    assert "50.0 ms in the stages together" in picture.words
    template = template_environment(html=True).from_string("{% for box in chain.boxes %}{{ box.name }}{% endfor %}")
    assert template.render(chain=picture) == "&lt;b&gt;a&lt;/b&gt;b"


CALLS = {"entry": ("left", "right"), "left": ("last",), "right": (), "last": ()}


def stages(**saturated_qps: float) -> list[StageRecord]:
    return [
        StageRecord(name=name, calls=CALLS[name], service_ms=10 + len(name), queue_ms=0, saturated_qps=qps)
        for name, qps in saturated_qps.items()
    ]


@pytest.mark.parametrize(
    ("qps", "cpu_ms", "named"),
    [
        ({"entry": 100.0, "left": 102.0, "right": 300.0, "last": 400.0}, 5.0, "left"),
        ({"entry": 100.0, "left": 102.0, "right": 300.0, "last": 104.0}, 5.0, "last"),
        ({"entry": 100.0, "left": 300.0, "right": 101.0, "last": 400.0}, 5.0, "right"),
        ({"entry": 100.0, "left": 150.0, "right": 300.0, "last": 400.0}, 5.0, "entry"),
        # All on one core: what calls most is slowest however the time is spread, so the longest is named.
        ({"entry": 100.0, "left": 150.0, "right": 300.0, "last": 400.0}, 50.0, "entry"),
        ({"left": 150.0, "right": 300.0, "last": 400.0}, 5.0, None),
        # One that was not asked is passed over: what it calls is its caller's.
        ({"entry": 100.0, "right": 300.0, "last": 101.0}, 5.0, "last"),
    ],
)
def test_the_bottleneck_is_found_along_the_calls(qps: dict[str, float], cpu_ms: float, named: str | None) -> None:
    chain = Chain(("entry", "left", "right", "last"), CALLS)
    assert bottleneck_of(chain, stages(**qps), cpu_ms) == named


def test_a_stage_waits_for_what_it_calls_in_turn_or_for_all_at_once() -> None:
    parts = [StageTimes(name="left", mean_ms=30), StageTimes(name="right", mean_ms=20)]

    def mean_ms(one: StageTimes) -> float:
        return one.mean_ms or 0.0

    assert own_time(StageTimes(mean_ms=60), parts, mean_ms) == 10  # one after the other
    assert own_time(StageTimes(mean_ms=35), parts, mean_ms) == 5  # at the same time
    assert own_time(StageTimes(mean_ms=15), parts[:1], mean_ms) == 0  # noise is no negative time


@pytest.mark.slow
def test_what_is_used_is_put_side_by_side_at_the_times_of_the_launches(tmp_path: Path) -> None:
    """The entry is the first of the chain, and is launched last, 10 s after the stage that it calls."""
    servers = []
    for name, begun, cores in (("entry", 110.0, 1.0), ("called", 100.0, 3.0)):
        (tmp_path / name).mkdir()
        rows = [f"{second},{cores * second},{int(cores * 1e6)}" for second in range(6 if name == "entry" else 16)]
        text = "\n".join(["seconds,cpu_seconds,memory_bytes", *rows])
        (tmp_path / name / "usage.csv").write_text(text + "\n", encoding="utf-8")
        servers.append((tmp_path / name, begun))
    used = gather([*servers, (tmp_path / "never launched", math.inf)], None).usage
    assert [(one.at_s, one.cpu_cores, one.memory_bytes) for one in used] == [
        (10.0 + second, 4.0, 4_000_000) for second in (2, 4)
    ]


def test_the_time_of_each_stage_is_known_and_the_narrow_one_is_named(
    tmp_path: Path, tune_in_process: Tune, needs_machine: None
) -> None:
    """One worker of 10 ms holds 100 requests/s at most; the stages around it hold 1,000 and 667."""
    done = tune_in_process("--service", write(tmp_path), "--budget", "1", timeout=100)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "tuning" / "rank-decode-detect"
    best = recommendation(folder)
    assert 30 < best["capacity_qps"]["value"] < 105  # a busy machine understates it; the stages' share of it is tested
    chain = best["chain"]
    assert [one["name"] for one in chain["stages"]] == ["decode", "detect", "rank"]
    assert chain["bottleneck"] == "detect"
    decode, detect, rank = chain["stages"]
    assert 4 <= decode["service_ms"] < 9
    assert 9.5 <= detect["service_ms"] < 15
    assert 2.5 <= rank["service_ms"] < 8
    together = sum(one["service_ms"] + one["queue_ms"] for one in chain["stages"])
    assert together == pytest.approx(chain["whole_ms"], rel=0.05)
    assert any(text.startswith("The chain's bottleneck is detect.") for text in best["reasons"])
    assert "detect.queue_ms" in pd.read_csv(folder / "trials.csv").columns
    assert "**detect** (bottleneck)" in (folder / "report.md").read_text(encoding="utf-8")
