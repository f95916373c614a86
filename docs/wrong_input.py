"""Write `docs/wrong-input.md`: what `tune validate` says of wrong specs, and its exit code.

python -m docs.wrong_input
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

PAGE = Path(__file__).parent / "wrong-input.md"
SPEC = """\
version: 1
service: {name: x, command: [python3, server.py, --host, "{host}", --port, "{port}"]}
request: {json: {text: hello}, check: {json: {$.ok: true}}}
slo: {p99: 50ms}
space: {parameters: {cpu_cores: [1]}}
prices: {cpu_core_hour: 0.04}
"""
_REQUEST, _SLO = "request: {", "slo: {p99: 50ms}"
# What is wrong, the text of SPEC that is replaced, and by what.
CASES = (
    ("nothing", "", ""),
    ("the command's file is not there", "server.py", "sever.py"),
    ("the command's program is not there", "python3", "no-such-program"),
    ("`service.venv` is not there", "service: {", "service: {venv: env, "),
    ("`service.venv` is no Python environment", "service: {", "service: {venv: ., "),
    ("`{port}` in no command", ', --port, "{port}"', ""),
    ("`{port}` misspelt", "{port}", "{prot}"),
    ("`{host}` in no command, and an image", '{name: x, command: [python3, server.py, --host, "{host}"',
     '{name: x, image: "x:1", command: [python3, server.py'),
    ("nothing of the space can run here", "[1]", "[4096]"),
    ("no `request.check`", ", check: {json: {$.ok: true}}", ""),
    ("`load.max_trial` too short to decide", _SLO, f"{_SLO}\nload: {{max_trial: 4s}}"),
    ("`load.max_trial` too short for slow servers", _SLO, f"{_SLO}\nload: {{max_trial: 14s}}"),
    ("`load.max_trial` below a limit of `slo`", _SLO, "slo: {p99: 5s}\nload: {max_trial: 4s}"),
    ("`slo.p99` longer than `request.timeout`", _REQUEST, "request: {timeout: 10s, "),
    ("a header's value that HTTP cannot carry", _REQUEST, 'request: {headers: {X-Note: "a\\nb"}, '),
    ("a header's name that HTTP cannot carry", _REQUEST, 'request: {headers: {"X Note": a}, '),
    ("a limit that can never bind", _SLO, "slo: {p50: 80ms, p99: 50ms}"),
    ("no `slo`", f"{_SLO}\n", ""),
    ("no price", "prices: {cpu_core_hour: 0.04}\n", ""),
    ("an unknown key", "slo:", "sol:"),
)  # fmt: skip

Validate = Callable[[Path], tuple[int, str]]


def page(folder: Path, validate: Validate) -> str:
    """`validate` gets the folder of a `spec.yaml`, and answers with the exit code and what was shown."""
    (folder / "server.py").touch()
    rows = []
    for wrong, old, new in CASES:
        text = SPEC.replace("p99: 50ms", "p99: 30s") if "request.timeout" in wrong else SPEC
        assert old in text, wrong
        (folder / "spec.yaml").write_text(text.replace(old, new), encoding="utf-8")
        code, shown = validate(folder)
        rows.append(f"| {wrong} | {_cell(shown, folder)} | {code} |")
    return "\n".join((
        "# What validate says of wrong input\n",
        "`python -m docs.wrong_input` writes this page: it changes one thing in the spec below, which is right, and\n"
        "runs `tune validate`. `FOLDER` stands for the spec's folder, and N for the machine's number of cores. With a\n"
        "warning or a hint alone the exit code is 0.\n",
        "```yaml", SPEC.rstrip(), "```\n",
        "| what is wrong | what is said | exit code |", "| --- | --- | ---: |", *rows, "",
    ))  # fmt: skip


def _cell(shown: str, folder: Path) -> str:
    """The findings alone where there are any: what is said of the space and the time is the same for all."""
    lines = shown.strip().splitlines()
    found = [line for line in lines if line.startswith(("warning: ", "hint: "))]
    kept = found or (lines[:1] if "is valid" in lines[0] else lines)
    texts = [re.sub(r"there are \d+ here", "there are N here", line.replace(str(folder), "FOLDER")) for line in kept]
    return "<br>".join("`` " + text.strip().replace("|", "\\|") + " ``" for text in texts)


def _validate(folder: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "tuner.cli", "validate"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        PAGE.write_text(page(Path(name).resolve(), _validate), encoding="utf-8")
    sys.stdout.write(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
