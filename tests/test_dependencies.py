"""What the packages import is declared: an import that comes with another package's dependency may go with it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("tuner", "loadtest", "search_spaces", "runners", "results")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _imported(package: str) -> dict[str, str]:
    """The top-level modules of others that a package imports, wherever it does, and one place of each."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        if path.name == "testing.py":  # contract suites, for those who test with pytest
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [one.name for one in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in PACKAGES:
                    found.setdefault(top, str(path.relative_to(ROOT)))
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared() -> set[str]:
    extras = [one for name, group in PROJECT["optional-dependencies"].items() if name != "dev" for one in group]
    return {_plain(re.split(r"[\[<>=!~; ]", one, maxsplit=1)[0]) for one in [*PROJECT["dependencies"], *extras]}


@pytest.fixture(scope="module")
def providers() -> Mapping[str, list[str]]:
    """By the name of a top-level module, the distributions that have it: most of a second to look up."""
    return packages_distributions()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_import_of_the_packages_is_a_declared_dependency(
    package: str, providers: Mapping[str, list[str]]
) -> None:
    for module, place in _imported(package).items():
        owners = {_plain(one) for one in providers.get(module, [module])}
        assert owners & _declared(), f"{place} imports {module}, of {', '.join(sorted(owners))}: declare it"


@pytest.mark.parametrize("lock", sorted((ROOT / "images" / "locks").glob("tune-*.txt")), ids=lambda path: path.stem)
def test_the_images_lock_has_all_that_is_declared_as_pinned_and_by_hash(lock: Path) -> None:
    lines = [line for line in lock.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"\S+==\S+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    locked = {_plain(line.partition("==")[0]): line.split("==")[1].split()[0] for line in lines}
    wanted = {_plain(re.split(r"[\[<>=!~; ]", one, maxsplit=1)[0]) for one in PROJECT["dependencies"]}
    assert wanted <= locked.keys(), f"images/lock tune: {sorted(wanted - locked.keys())}"
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, _, version = line.partition("==")
        if _plain(name) in locked:
            assert locked[_plain(name)].partition("+")[0] == version.split()[0], (
                f"images/lock tune: {name} is not as pinned"
            )
