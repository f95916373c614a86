"""`python -m benchmarks.wrong_inputs [--output docs/faults-found.md]`: all wrong inputs and their siblings, as a table.

Each is tried by the command line, and a row says its exit code and what was printed; what needs a server, load or a
cluster is a test, which is run. Ends with 1 where any is not right.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.wrong_inputs import CASES, SIBLINGS, TESTS, Case, Scratch

_HEAD = """\
# Faults that people found, and how each ends

What people's files, bug reports of other tools and attacks once did to a tuner like this one, and what each does here.
`python -m benchmarks.wrong_inputs --output docs/faults-found.md` wrote this page: every row was tried on this code, and
`tests/fuzz/test_wrong_inputs.py` holds each to its exit code and its words. `FOLDER` stands for the folder of the call,
and ` / ` for a new line.
"""


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="a Markdown file to write; the terminal otherwise")
    asked = parser.parse_args()
    os.environ["COLUMNS"] = "200"
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="wrong-inputs-") as folder:
        scratch = Scratch(Path(folder))
        parts = [
            _HEAD,
            f"## As they came: {len(CASES)} calls\n\n" + _table(scratch, CASES, wrong),
            f"## As they came: what {len(TESTS)} tests prove\n\n" + _tests(wrong),
            f"## Siblings: {len(SIBLINGS)} calls\n\n" + _table(scratch, SIBLINGS, wrong),
        ]
    page = "\n".join(parts)
    if asked.output is not None:
        asked.output.write_text(page, encoding="utf-8")
    else:
        print(page)
    print(f"{len(CASES) + len(SIBLINGS)} calls, {len(TESTS)} tests: {len(wrong)} not right", *wrong, sep="\n")
    return 1 if wrong else 0


def _table(scratch: Scratch, cases: tuple[Case, ...], wrong: list[str]) -> str:
    lines = ["| kind | input | exit code | message |", "| --- | --- | --- | --- |"]
    for case in cases:
        tried = scratch.tried(case)
        if tried.wrong is not None:
            wrong.append(f"{case.kind}: {case.what}: {tried.wrong}: {tried.message}")
        cells = (case.kind, case.what, str(tried.code), _short(tried.message.replace(str(scratch.folder), "FOLDER")))
        lines.append("| " + " | ".join(one.replace("|", "\\|") for one in cells) + " |")
    return "\n".join(lines) + "\n"


def _short(message: str) -> str:
    text = " / ".join(" ".join(line.split()) for line in message.splitlines()).replace("`", "'")
    return f"`{text if len(text) <= 300 else text[:300] + '...'}`"


def _tests(wrong: list[str]) -> str:
    lines = ["| kind | what is right | test | passes |", "| --- | --- | --- | --- |"]
    for kind, right, test in TESTS:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
            cwd=Path(__file__).parent.parent.parent, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            wrong.append(f"{kind}: {test} fails")
        lines.append(f"| {kind} | {right} | `{test.rpartition('/')[2]}` | {'yes' if done.returncode == 0 else 'no'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
