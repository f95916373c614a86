"""From a configuration to a container and its price."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from runners import Placement, ProcessRunner, Resources
from search_spaces import ParameterValue
from tests.tuner.spec.test_spec_file import GOOD, load
from tuner.errors import SpecError
from tuner.launch.checks.before_launch import check, warnings
from tuner.launch.checks.runnable import why_refused
from tuner.launch.price import gpu_share, price_of, price_per_hour
from tuner.launch.render import TrialLaunch, placeholders, render, resources, substitute
from tuner.launch.requests import request_source
from tuner.spec.model import GpuPrice

GPU = """\
version: 1
service: {name: gpu, command: [python3, s.py, "{port}", "{gpu_type}", "{slice}"]}
request: {path: /p, json: {a: 1}}
slo: {p99: 50ms}
space:
  parameters:
    gpu_type: [T4, A100]
    slice: {choices: ["25%", 20Gi, 1], role: gpu_memory}
    cpu_cores: [2]
    memory: [4Gi]
    replicas: [1, 3]
prices:
  cpu_core_hour: 0.04
  memory_gib_hour: 0.005
  gpu_hour: {T4: {price: 0.4, memory: 20Gi}, A100: {price: 3.6, memory: 80Gi}}
"""


def test_placeholders_are_replaced_once_and_doubled_braces_stay() -> None:
    values = {"a": "{b}", "b": "2"}
    assert substitute('{a} {b} {{b}} {"json": {b}} {c d} ${b}', values) == '{b} 2 {b} {"json": 2} {c d} $2'
    assert placeholders("{a} {{b}} {c d} {1x}") == ["a"]


def test_a_container_is_rendered_from_command_environment_and_files(tmp_path: Path) -> None:
    (tmp_path / "conf.tpl").write_text('{"batch": {batch_size}, "port": {port}}', encoding="utf-8")
    loaded = load(tmp_path, GOOD.replace("  ready:", "  files: {conf/a.json: conf.tpl}\n  ready:"))
    found = {"cpu_cores": 2, "threads": 1, "batch_size": 8, "workers": 1}
    placement, launch = Placement("127.0.0.1", 21000, "/trial/files"), TrialLaunch("s", 3, tmp_path, tmp_path)
    container = render(loaded, found, placement, request_source(loaded), launch)
    assert container.command == ("python", "server.py", "--port", "21000", "--batch", "8")
    assert container.env == {"OMP_NUM_THREADS": "4"}
    assert container.files == {"conf/a.json": '{"batch": 8, "port": 21000}'}
    assert container.resources.cpu_cores == 2
    assert container.readiness.timeout_s == 120
    assert container.readiness.request is not None
    assert container.readiness.request.body == b'{"text": "hello"}'
    assert container.readiness.request.headers == {"Content-Type": "application/json"}


def test_services_are_told_of_whole_cores_only_where_cores_are_what_lacks(tmp_path: Path) -> None:
    """Refused by a machine of so many cores and so much memory, as Docker's runner does it."""

    class Machine(ProcessRunner):
        def __init__(self, cores: float, memory_gib: float) -> None:
            super().__init__()
            self.cores, self.memory_gib = cores, memory_gib

        def refuses(self, resources: Resources) -> str | None:
            if (resources.cpu_cores or 0) > self.cores:
                return "asks for cores"
            return "asks for memory" if (resources.memory_bytes or 0) > self.memory_gib * 2**30 else None

    one = """\
  - service: {name: NAME, image: "x:1", command: [serve, "{port}", "{host}"]}
    slo: {p99: 50ms}
    space: {parameters: {cpu_cores: [0.5], memory: [3Gi]}}
"""
    text = "version: 1\nservices:\n" + one.replace("NAME", "a") + one.replace("NAME", "b")
    loaded = load(tmp_path, text + "prices: {cpu_core_hour: 0.04}\nrunner: {type: docker}\n")
    [configuration] = loaded.space.sample(1, seed=0)
    assert why_refused(loaded, Machine(2, 4), configuration) == "all services together: it asks for memory"
    whole = "all services together, each on whole cores of its own: it asks for cores"
    assert why_refused(loaded, Machine(1, 9), configuration) == whole
    assert why_refused(loaded, Machine(2, 6), configuration) is None


def test_an_unknown_placeholder_in_a_file_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "conf.tpl").write_text("{batchsize}", encoding="utf-8")
    loaded = load(tmp_path, GOOD.replace("  ready:", "  files: {a.json: conf.tpl}\n  ready:"))
    with pytest.raises(
        SpecError, match=r"service.files.a.json: unknown placeholder .batchsize.; did you mean .batch_size.\?"
    ):
        check(loaded)


def test_a_parameter_that_reaches_nothing_is_warned_about(tmp_path: Path) -> None:
    assert any("threads reaches nothing" in text for text in warnings(load(tmp_path, GOOD)))


TRACED = GOOD.replace("{max_trial: 90s}", "{arrivals: trace, trace: log.csv}")


@pytest.mark.parametrize(
    ("step_s", "said"),
    [(9, ""), (10, "write load.max_trial: 100s"), (40, "write load.max_trial: 400s"), (3600, "out the")],
)
def test_a_trace_of_which_only_the_beginning_is_measured_is_warned_of(tmp_path: Path, step_s: int, said: str) -> None:
    """Two steps of it come round; a probe of 90 s of load lasts about 18."""
    (tmp_path / "log.csv").write_text(f"time,rate\n0,20\n{step_s},180\n", encoding="utf-8")
    [found] = [text for text in warnings(load(tmp_path, TRACED)) if text.startswith("load.trace")] or [""]
    assert found.startswith(f"load.trace: its rates take {2 * step_s} s to come round, and a probe" if said else "")
    assert said in found
    assert ("max_trial: " in found) == ("max_trial: " in said)


@pytest.mark.parametrize(
    ("faster", "said"), [(1.0, ""), (1.2, ""), (3.0, "over 500 requests its rate is 0.67 to 2 times its mean")]
)
def test_a_log_whose_rate_changes_is_warned_of(tmp_path: Path, faster: float, said: str) -> None:
    """Half of its requests come so many times as fast as the others, each half evenly."""
    gaps = [1.0] * 3000 + [1 / faster] * 3000
    lines = "\n".join(f"{at:.6f}" for at in itertools.accumulate(gaps))
    (tmp_path / "log.csv").write_text(f"time\n{lines}\n", encoding="utf-8")
    [found] = [text for text in warnings(load(tmp_path, TRACED)) if text.startswith("load.trace")] or [""]
    assert bool(found) == bool(said)
    assert said in found


def test_a_price_is_cores_and_memory_and_the_share_of_a_gpu_times_replicas(tmp_path: Path) -> None:
    loaded = load(tmp_path, GPU)
    found: dict[str, ParameterValue] = {
        "gpu_type": "A100",
        "slice": "20Gi",
        "cpu_cores": 2,
        "memory": "4Gi",
        "replicas": 3,
    }
    assert price_per_hour(loaded.space, found, loaded.spec.prices) == pytest.approx(3 * (0.08 + 0.02 + 0.9))
    assert resources(loaded.space, found).gpu_type == "A100"


@pytest.mark.parametrize(("asked", "share"), [(None, 1.0), ("25%", 0.25), (0.5, 0.5), ("20Gi", 0.25), (1, 1.0)])
def test_a_slice_is_a_share_or_bytes_of_the_whole(asked: str | float | None, share: float) -> None:
    assert gpu_share(asked, GpuPrice(price=3.6, memory="80Gi")) == pytest.approx(share)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("T4: {price: 0.4, memory: 20Gi}", "L4: 0.4", "gpu_hour has no price for T4"),
        ("T4: {price: 0.4, memory: 20Gi}", "T4: 0.4", "its price needs the GPU's whole memory"),
        ("memory: 80Gi", "memory: 10Gi", "20Gi is more than the GPU's memory"),
    ],
)
def test_a_price_that_is_missing_is_said_before_the_first_trial(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        check(load(tmp_path, GPU.replace(old, new)))
    assert said in str(caught.value)


SEVERAL = """\
version: 1
service: {name: gpu, command: [python3, s.py, "{port}", "{gpus}"]}
request: {path: /p, json: {a: 1}}
slo: {p99: 50ms}
space: {parameters: {gpu_type: [none, A100], gpus: [0, 1, 2, 4, 8], cpu_cores: [2]}}
prices: {cpu_core_hour: 0.04, gpu_hour: {A100: 3.6}}
"""


@pytest.mark.parametrize("gpus", [0, 1, 2, 4, 8])
def test_a_price_has_every_gpu_of_a_replica(tmp_path: Path, gpus: int) -> None:
    loaded = load(tmp_path, SEVERAL)
    found: dict[str, ParameterValue] = {"gpu_type": "A100", "gpus": gpus, "cpu_cores": 2}
    assert price_per_hour(loaded.space, found, loaded.spec.prices) == pytest.approx(0.08 + 3.6 * gpus)
    assert resources(loaded.space, found).gpu_count == gpus
    none = found | {"gpu_type": "none"}
    assert resources(loaded.space, none).gpu_count == 0
    assert resources(loaded.space, none).gpus == 0, "which takes the GPUs out of a manifest, too"
    assert price_per_hour(loaded.space, none, loaded.spec.prices) == pytest.approx(0.08)


def test_slices_are_paid_for_as_often_as_they_are_had(tmp_path: Path) -> None:
    loaded = load(tmp_path, GPU.replace("    cpu_cores: [2]\n", "    cpu_cores: [2]\n    gpus: [1, 4]\n"))
    found: dict[str, ParameterValue] = {
        "gpu_type": "A100", "slice": "25%", "cpu_cores": 2, "memory": "4Gi", "replicas": 1, "gpus": 4
    }  # fmt: skip
    assert price_per_hour(loaded.space, found, loaded.spec.prices) == pytest.approx(0.08 + 0.02 + 3.6)


SHARED = """\
version: 1
service: {name: gpu, image: "x:1", command: [python3, s.py, "{port}"]}
request: {path: /p, json: {a: 1}}
slo: {p99: 50ms}
space: {parameters: {gpu_type: [A100], gpu_memory: [25%, 100%], gpu_compute: [10%, 50%, 100%]}}
prices: {gpu_hour: {A100: {price: 4, memory: 80Gi}}}
"""


@pytest.mark.parametrize(("memory", "compute", "price"), [("25%", "10%", 1), ("25%", "50%", 2), ("100%", "10%", 4)])
def test_the_larger_share_of_a_gpu_is_paid_for(tmp_path: Path, memory: str, compute: str, price: float) -> None:
    loaded = load(tmp_path, SHARED)
    found: dict[str, ParameterValue] = {"gpu_type": "A100", "gpu_memory": memory, "gpu_compute": compute}
    assert price_per_hour(loaded.space, found, loaded.spec.prices) == pytest.approx(price)
    assert resources(loaded.space, found).compute_percent == compute.removesuffix("%")


@pytest.mark.parametrize(
    ("runner", "said"),
    [
        ("", "runner.process.gpu_slices: mps, where CUDA's MPS runs"),
        ("runner: {type: process, process: {gpu_slices: kept-by-server}}", "the command is told {gpu_compute}"),
        ("runner: {type: docker}", "use the process or the kubernetes runner"),
        ("runner: {type: kubernetes}", "hami-gpumem or mps, or one of your own with {percent} in it"),
        ("runner: {type: kubernetes, kubernetes: {gpu: {slices: dra}}}", "hami-gpumem or mps"),
        ("runner: {type: process, process: {gpu_slices: mps}}", None),
        ("runner: {type: kubernetes, kubernetes: {gpu: {slices: hami-gpumem}}}", None),
        ("runner: {type: kubernetes, kubernetes: {gpu: {slices: {resources: {a.b/c: '{percent}'}}}}}", None),
    ],
)
def test_a_share_of_the_compute_needs_somebody_who_keeps_the_server_to_it(
    tmp_path: Path, runner: str, said: str | None
) -> None:
    (tmp_path / "s.py").touch()
    loaded = load(tmp_path, f"{SHARED}{runner}\n")
    if said is None:
        check(loaded)
        return
    with pytest.raises(SpecError, match=r"gpu_compute: nothing here would keep the server to a share") as caught:
        check(loaded)
    assert said in str(caught.value)


def test_a_share_of_the_compute_is_one_and_without_memory_all_is_paid_for(tmp_path: Path) -> None:
    (tmp_path / "s.py").touch()
    mps = "runner: {type: process, process: {gpu_slices: mps}}\n"
    with pytest.raises(SpecError, match="gpu_compute: 25 is no share of a GPU's compute; write for example 25%"):
        check(load(tmp_path, SHARED.replace("[10%, 50%, 100%]", "[25]") + mps))
    alone = load(tmp_path, SHARED.replace("gpu_memory: [25%, 100%], ", "") + mps)
    assert price_of(alone, {"gpu_type": "A100", "gpu_compute": "10%"}) == 4
    assert any("its whole GPU is paid for" in one for one in warnings(alone))


def test_gpus_that_only_a_manifest_knows_of_are_said_to_be_unpriced(tmp_path: Path) -> None:
    server = "{name: s, image: i, resources: {limits: {nvidia.com/gpu: COUNT}}}"
    manifest = "kind: Deployment\nmetadata: {name: llm}\nspec: {template: {spec: {containers: [SERVER]}}}\n"
    spec = SHARED.replace("gpu_type: [A100], gpu_memory: [25%, 100%], gpu_compute: [10%, 50%, 100%]", "cpu_cores: [1]")
    spec += "runner: {type: kubernetes, kubernetes: {manifest: llm.yaml}}\n"

    def said(count: int, text: str) -> list[str]:
        (tmp_path / "llm.yaml").write_text(manifest.replace("SERVER", server.replace("COUNT", str(count))))
        return [one for one in warnings(load(tmp_path, text)) if "no price is paid for" in one]

    [warning] = said(2, spec)
    assert "llm.yaml asks for nvidia.com/gpu: 2" in warning
    assert not said(0, spec)
    assert not said(2, spec.replace("cpu_cores: [1]", "cpu_cores: [1], gpu_type: [none, A100]"))


def test_files_that_no_config_map_holds_are_refused_before_a_pod_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "big.txt").write_text("x" * 700_000, encoding="utf-8")
    service = SHARED.replace('{port}"]}', '{port}"], files: {a.txt: big.txt, b.txt: big.txt}}')
    with pytest.raises(SpecError, match=r"service\.files: are 1\.3 MiB together, and the config map"):
        check(load(tmp_path, service + "runner: {type: kubernetes, kubernetes: {gpu: {slices: hami-gpumem}}}\n"))


def test_gpus_without_a_type_are_those_of_the_one_price_or_refused(tmp_path: Path) -> None:
    text = SEVERAL.replace("gpu_type: [none, A100], gpus: [0, 1", "gpus: [0, 1")
    loaded = load(tmp_path, text)
    assert price_per_hour(loaded.space, {"gpus": 2, "cpu_cores": 2}, loaded.spec.prices) == pytest.approx(0.08 + 7.2)
    with pytest.raises(SpecError, match="gpus of which GPU"):
        check(load(tmp_path, text.replace("{A100: 3.6}", "{A100: 3.6, T4: 1}")))


def test_a_process_has_a_slice_only_where_its_command_is_told_and_the_spec_says_so(tmp_path: Path) -> None:
    (tmp_path / "s.py").touch()
    with pytest.raises(SpecError, match=r"gpu_slices: kept-by-server where its command sees to that"):
        check(load(tmp_path, GPU))
    kept = GPU + "runner: {type: process, process: {gpu_slices: kept-by-server}}\n"
    check(load(tmp_path, kept))
    with pytest.raises(SpecError, match=r"slice: runner.process.gpu_slices says that the server keeps to its slice"):
        check(load(tmp_path, kept.replace(', "{slice}"', "")))
