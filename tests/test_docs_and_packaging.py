"""What documents promise exists, and the wheel holds what it should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from results.exports import FORMATS
from search_spaces import ROLES, preset_names
from tuner import __version__
from tuner.errors import ExitCode
from tuner.spec.model import Spec, schema_text
from tuner.spec.reading import load_spec

ROOT = Path(__file__).parent.parent
SPEC_PAGE = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8")


def keys_of(model: type[BaseModel]) -> set[str]:
    """Every key of the spec, at every level."""
    found = set()
    for name, info in model.model_fields.items():
        found.add(info.alias or name)
        for inner in (info.annotation, *getattr(info.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                found |= keys_of(inner)
    return found


@pytest.mark.parametrize("key", sorted(keys_of(Spec)))
def test_every_key_of_the_spec_is_documented(key: str) -> None:
    assert re.search(rf"[`.]{re.escape(key)}[`.:]", SPEC_PAGE), f"docs/spec.md does not name {key}"


@pytest.mark.parametrize("name", [*ROLES, *preset_names()])
def test_every_role_and_preset_is_documented(name: str) -> None:
    assert f"`{name}`" in SPEC_PAGE


def test_every_exit_code_in_use_is_documented() -> None:
    page = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")
    for code in ExitCode:
        assert f"| {int(code)} |" in page


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_export_is_documented(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "export.md").read_text(encoding="utf-8")


def test_every_message_that_troubleshooting_explains_can_still_be_said() -> None:
    """A message's text between what varies in it (names, numbers, `...`) stands in the source."""
    files = (path for room in ("tuner", "runners", "loadtest", "results") for path in (ROOT / room).rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text(encoding="utf-8") for path in files))
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)
    assert len(messages) > 10
    for message in messages:
        parts = (part.strip(" .") for part in re.split(r"\.\.\.|: |\bN%?|'x'|server\.py|\{host\}", message))
        assert not [part for part in parts if len(part) > 5 and part not in source], message


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.usefixtures("needs_machine")
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_what_githubs_schema_wants_with_pinned_actions_and_no_right_but_to_read(path: Path) -> None:
    checker = Path(sys.executable).parent / "check-jsonschema"
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.github-workflows", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    content = YAML(typ="safe").load(path)
    assert content["permissions"] == {"contents": "read"}
    assert all("permissions" not in job and "timeout-minutes" in job for job in content["jobs"].values())
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v[\d.]+", one) for one in used), used
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")
    assert not re.search(r"run: .*\$\{\{ *github\.", text), "what a stranger may name stands in no command"


@pytest.mark.usefixtures("needs_machine")
@pytest.mark.parametrize(
    ("schema", "path"), [("github-workflows", "github-actions.yml"), ("gitlab-ci", "gitlab-ci.yml")]
)
def test_the_documented_pipelines_are_what_their_schemas_want(schema: str, path: str) -> None:
    checker = Path(sys.executable).parent / "check-jsonschema"
    done = subprocess.run(
        [checker, "--builtin-schema", f"vendor.{schema}", ROOT / "docs" / "ci" / path], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.usefixtures("needs_machine")
def test_the_action_is_what_githubs_schema_wants() -> None:
    checker = Path(sys.executable).parent / "check-jsonschema"
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.github-actions", ROOT / "action.yml"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("runner", "told"), [("", ""), ("docker", " --runner docker")])
def test_the_action_validates_the_spec_on_the_runner_that_it_tunes_on(tmp_path: Path, runner: str, told: str) -> None:
    """Its own script, beside a program that writes down how it is called."""
    program = tmp_path / "tune" / "bin" / "tune"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\necho "$*" >> "{tmp_path}/called"\n', encoding="utf-8")
    program.chmod(0o755)
    steps = YAML(typ="safe", pure=True).load((ROOT / "action.yml").read_text(encoding="utf-8"))["runs"]["steps"]
    [script] = [one["run"] for one in steps if one["name"] == "Tune"]
    given = {"SPEC": "s.yaml", "BUDGET": "auto", "OUTPUT": "out", "RUNNER": runner, "RUNNER_TEMP": str(tmp_path)}
    subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=os.environ | given, check=True)
    assert (tmp_path / "called").read_text(encoding="utf-8").splitlines() == [
        f"validate s.yaml{told}", f"--service s.yaml --budget auto --output out{told}"
    ]  # fmt: skip


@pytest.mark.parametrize("path", [*ROOT.glob("examples/*/spec.yaml"), ROOT / "tuner" / "commands" / "starter.yaml"])
def test_every_spec_that_ships_is_valid_and_fits_the_schema(path: Path) -> None:
    assert load_spec(path).space.size.count > 1
    content: Any = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    schema: Any = __import__("json").loads(schema_text())
    jsonschema.validate(content, schema)


def test_the_example_has_space_and_requests_enough() -> None:
    assert load_spec(ROOT / "examples/minilm/spec.yaml").space.size.count >= 100
    assert len((ROOT / "examples/minilm/sentences.jsonl").read_text(encoding="utf-8").splitlines()) >= 500


@pytest.mark.usefixtures("needs_machine")
def test_the_wheel_holds_the_five_packages_and_their_data(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True,
        capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.split("-")[1] == __version__
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name and ".data/" not in name}
    assert [name for name in names if name.endswith(".data/data/share/man/man1/tune.1")]
    assert tops == {"tuner", "search_spaces", "runners", "loadtest", "results"}
    for wanted in (
        "search_spaces/presets/cpu-serving.yaml", "tuner/demo/h100-vision.csv", "tuner/demo/spec.yaml",
        "results/report/templates/report.html.j2",
        "tuner/commands/starter.yaml", "tuner/search/surrogate/weights.safetensors",
        "tuner/search/surrogate/MODEL_CARD.md",
    ):  # fmt: skip
        assert wanted in names
    assert (ROOT / "tuner" / "search" / "surrogate" / "weights.safetensors").stat().st_size <= 4_000_000


def test_the_version_is_written_in_one_place_and_what_is_deployed_follows_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project
    assert "version" in project["dynamic"]
    chart: Any = YAML(typ="safe", pure=True).load((ROOT / "charts" / "tune" / "Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    deployed = (ROOT / "deploy" / "tune.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"app\.kubernetes\.io/version: \"(.+)\"", deployed)) == {__version__}


def test_what_is_installed_for_the_demo_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "torch==2.13.0" in pins
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for wanted in (*project["dependencies"], *project["optional-dependencies"]["dev"]):
        name = re.split(r"[<>=\[]", wanted)[0]
        assert re.search(rf"(?im)^{re.escape(name).replace('_', '[-_]')}==", pins), f"{name} is not pinned"
