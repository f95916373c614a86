"""What nobody may get by a study, a server or a spec: files elsewhere, others' processes, secrets, a full disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from ruamel.yaml import YAML

from results.exports.documents import to_yaml
from runners.host.server_log import MAX_HEAD_BYTES, MAX_TAIL_BYTES, bounded, bounded_log, end_of_file
from runners.leftovers.cleanup import remove_leftovers
from runners.leftovers.ownership import Lease, this_place
from runners.readiness import excerpt, last_words, out_of_memory
from search_spaces import masking
from search_spaces.reading import why_outside
from tests.conftest import Tune
from tuner.errors import SpecError
from tuner.launch.checks.before_launch import check
from tuner.launch.render import templates
from tuner.spec.reading import load_spec
from tuner.study.storage.connection import unreachable

SPEC = """\
version: 1
service: {name: p, command: [python, server.py, COMMAND], files: FILES}
request: {path: /, headers: HEADERS, json: {x: 1}}
slo: {p99: 50ms}
space: {parameters: {cpu_cores: [1, 2]}}
prices: {cpu_core_hour: 0.04}
"""


def write(folder: Path, *, files: str = "{}", headers: str = "{}", command: str = '"{port}"') -> Path:
    text = SPEC.replace("FILES", files).replace("HEADERS", headers).replace("COMMAND", command)
    (folder / "server.py").write_text("", encoding="utf-8")
    (folder / "spec.yaml").write_text(text, encoding="utf-8")
    return folder / "spec.yaml"


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "~/x", "a/", ".", "", " ", "a\\..\\..\\x", "..", "a/.."]
)
def test_a_files_name_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    assert why_outside(name) is not None
    with pytest.raises(SpecError, match=r"service\.files: .*spec\.yaml:2"):
        load_spec(write(tmp_path, files=json.dumps({name: "server.py"})))


@pytest.mark.parametrize("name", ["x", "a/b.conf", "..x", "a..b/c", ".hidden"])
def test_a_name_within_is_a_name(name: str) -> None:
    assert why_outside(name) is None


@pytest.mark.parametrize("template", ["/etc/passwd", "../outside", "link", "loop", "/dev/zero", "nothing"])
def test_a_template_lies_in_the_specs_folder(template: str, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside").write_text("secret", encoding="utf-8")
    (inside / "link").symlink_to(tmp_path / "outside")
    (inside / "loop").symlink_to(inside / "loop")
    loaded = load_spec(write(inside, files=json.dumps({"x": template})))
    with pytest.raises(SpecError, match=r"service\.files\.x: .*spec\.yaml:2"):
        list(templates(loaded))


@pytest.mark.parametrize("value", ["“größe”", "大", "a\nb", "a\rb", "\u202e"])
def test_a_header_that_cannot_be_sent_is_found_in_the_spec(value: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"request\.headers: .*'X-Title'.*spec\.yaml:3"):
        load_spec(write(tmp_path, headers=json.dumps({"X-Title": value})))
    assert load_spec(write(tmp_path, headers='{"X-Title": "größe"}')).spec.request.headers["X-Title"] == "größe"


def test_a_command_without_its_port_is_found_in_the_spec(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"service\.command: \{port\} is in no command, env or file.*spec\.yaml:2"):
        check(load_spec(write(tmp_path, command='"8000"')))
    check(load_spec(write(tmp_path)))


MISREAD = (
    "yes", "no", "on", "off", "y", "n", "Yes", "ON", "tRuE", "0777", "0o17", "1_000", "1:30", "190:20:30", "=",
    "<<", "null",
    "~",    "1e3", ".5", "0x1F", "0b11", "2020-01-01", "2001-12-14t21:59:43.10-05:00", ".inf", "NaN", "-",
    "- a", "a: b", "#x",
    " x", "x ",    "? x", "\ttab", "é", "\u0085", "\u2028", "1.", "+1", "012e1", "", "'", '"', "{", "[a]",
    "\U0001f600", "\ufeff",
    "08", "1e",    "a\nb", "\u202ex", "\u00a0", "--fp16", "4000m", "8Gi",
)  # fmt: skip


def test_exports_are_the_same_to_readers_of_either_version_of_yaml() -> None:
    document = {
        "args": list(MISREAD),
        "env": [{"name": "V", "value": text} for text in MISREAD],
        **dict.fromkeys(MISREAD, 1),
    }
    text = to_yaml([document], "head")
    assert yaml.safe_load(text) == document  # YAML 1.1, as kubectl's and Helm's
    assert YAML(typ="safe", pure=True).load(text) == document  # YAML 1.2


def test_secrets_are_masked_in_every_form_in_which_they_are_written() -> None:
    masking.remember('pa ss/wörd"1')
    masking.remember_pair("me", "hunter22")
    forms = ('pa ss/wörd"1', "pa%20ss%2Fw%C3%B6rd%221", "pa+ss%2Fw%C3%B6rd%221", json.dumps('pa ss/wörd"1'))
    for text in (*forms, "hunter22", "Basic bWU6aHVudGVyMjI="):
        assert masking.MASK in masking.masked(f"before {text} after"), text
    assert masking.masked_values({"a": ["x hunter22"], "b": 1}) == {"a": [f"x {masking.MASK}"], "b": 1}
    assert masking.masked_bytes(b"\xff hunter22") == b"\xff [secret]"
    masking.remember("secret")
    assert masking.masked(masking.masked("a secret")) == "a [secret]"
    masking.remember("abc")  # which would stand in any text
    assert masking.masked("abc") == "abc"


def test_no_secret_is_cut_in_two_where_a_text_is_cut(tmp_path: Path) -> None:
    token = "hf_" + "ABCDEFGH" * 8
    masking.remember(token)
    long = f"{'x' * 120} error: {token} is not allowed"
    for said in (last_words(f"loading\n{long}\n"), excerpt(long.encode()), out_of_memory(f"out of memory {long}")):
        assert "hf_" not in said
        assert said.startswith(("x" * 120, "out of memory"))
    (tmp_path / "server.log").write_text("y" * 5000 + token + "z" * 1970, encoding="utf-8")
    assert "H" not in end_of_file(tmp_path / "server.log")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:PWSECRET@h:1/db", "postgresql://h:1/db?user=u&password=PWSECRET",
        "postgresql://u:p@PWSECRET@h/db",
        "postgresql://u:PW?SECRET@h/db", "postgresql://u:PWSECRET/x@h/db",
        "mysql://h/db?ssl_key=PWSECRET", "PWSECRET",
        "postgresql://h/db?password=PW@SECRET", "postgresql+psycopg://:PWSECRET@/db",
    ],
)  # fmt: skip
def test_a_storages_password_is_in_no_message(url: str) -> None:
    masking.remember_url(url)
    said = masking.masked(str(unreachable(url, ValueError(f"cannot connect to {url}"))))
    assert "PW" not in said
    assert "SECRET" not in said


def test_a_log_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    with bounded_log(path) as log, path.open("wb") as server:
        server.write(b"first line\n")
        for _ in range(64):
            server.write(b"x" * (1 << 20))
            server.flush()
            log.trim()
            assert path.stat().st_blocks * 512 < 40 << 20
        server.write(b"last line\n")
    content = path.read_bytes()
    assert len(content) < MAX_HEAD_BYTES + MAX_TAIL_BYTES + 100
    assert content.startswith(b"first line\n")
    assert content.endswith(b"last line\n")
    assert b"bytes are left out here" in content
    assert path.stat().st_mode & 0o777 == 0o600
    piecewise = bounded([b"first line\n", *[b"x" * (1 << 20)] * 64, b"last line\n"])
    assert piecewise.startswith(b"first line\n")
    assert piecewise.endswith(b"last line\n")
    assert len(piecewise) < MAX_HEAD_BYTES + 2 * MAX_TAIL_BYTES + 100


@pytest.mark.usefixtures("needs_machine")
def test_a_process_that_got_a_dead_leaders_number_is_spared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    # A process in a session whose leader is gone, as of a daemon that forked twice.
    program = "import os, time\nif os.fork(): os._exit(0)\nprint(os.getpid(), os.getsid(0), flush=True); time.sleep(60)"
    leader = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert leader.stdout is not None
    pid, session = map(int, leader.stdout.readline().split())
    leader.wait()
    lease = Lease(
        owner="999999-1", study="s", trial=0, place=this_place(), temporary=str(tmp_path / "tune-x"), session=session,
        session_started=1,
    )  # fmt: skip
    folder = tmp_path / "tune" / "leases"
    folder.mkdir(parents=True)
    (folder / "999999-1-aa.json").write_text(lease.model_dump_json(), encoding="utf-8")
    try:
        assert remove_leftovers() == []
        time.sleep(0.2)
        os.kill(pid, 0)  # it lives
        assert not list(folder.iterdir())
    finally:
        os.kill(pid, 9)
        leader.stdout.close()


def test_tune_storage_names_the_storage(tmp_path: Path, tune_in_process: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_STORAGE", "postgresql://u:PWSECRET@127.0.0.1:1/db")
    done = tune_in_process("report", tmp_path)
    assert done.returncode == 4
    assert "postgresql://127.0.0.1:1/db" in done.stderr
    assert "PWSECRET" not in done.stderr
