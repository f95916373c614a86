"""Print the lowest versions that pyproject.toml claims, as constraints for pip (`make lowest` tests with them).

    python .ci/lowest.py [NAME...]

What the product itself needs is held at its lower bound, but each NAME at what constraints.txt pins. What those need in
turn, and the tools of the tests, are left to pip.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)(\[[^]]*\])?(>=(?P<lowest>[0-9.]+))?")


def _plain(name: str) -> str:
    """The form in which names of packages are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints(keep: set[str]) -> list[str]:
    """A line per package that the product needs, those of its extras too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(one for name, extra in extras.items() if name != "dev" for one in extra)]
    lowest = {_plain(match["name"]): f"{match['name']}=={match['lowest']}" for match in _parsed(wanted)}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {_plain(line.partition("==")[0]): line for line in lines if "==" in line and not line.startswith("#")}
    return sorted((lowest | {name: pinned[name] for name in keep}).values())


def _parsed(requirements: list[str]) -> list[re.Match[str]]:
    found = [_REQUIREMENT.fullmatch(one) for one in requirements]
    if unread := [text for text, match in zip(requirements, found, strict=True) if match is None]:
        raise SystemExit(f"pyproject.toml: {', '.join(unread)}: is not of the form name>=version")
    return [match for match in found if match is not None]


if __name__ == "__main__":
    sys.stdout.write("\n".join(constraints({_plain(name) for name in sys.argv[1:]})) + "\n")
