"""What a locustfile's own code does wrong, and failures that happen outside of its tasks' own greenlets."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest import LoadGenerator, LoadTestError, WrongLocustfile, check_locustfile
from tests.loadtest.api_server import serving
from tests.loadtest.generator.test_fleet_and_locustfile import plan, write_locustfile

pytestmark = pytest.mark.usefixtures("needs_machine")

HEAD = """\
import threading
import gevent
from gevent.pool import Pool
from locust import FastHttpUser, HttpUser, events, task

"""
SENT_ELSEWHERE = {
    "a pool": """\
class Reader(FastHttpUser):
    @task
    def read(self):
        pool = Pool()
        for _ in range(2):
            pool.spawn(self.client.get, "/500")
        pool.join()
""",
    "a greenlet of a greenlet": """\
class Reader(FastHttpUser):
    @task
    def read(self):
        gevent.spawn(lambda: gevent.spawn(self.client.get, "/500").join()).join()
""",
    "a thread": """\
class Reader(HttpUser):
    @task
    def read(self):
        thread = threading.Thread(target=self.client.get, args=("/500",))
        thread.start()
        thread.join()
""",
    "a callback": """\
class Reader(FastHttpUser):
    @task
    def read(self):
        first = gevent.spawn(self.client.get, "/ok")
        first.link(lambda _: self.client.get("/500"))
        first.join()
        gevent.sleep(0.02)
""",
    "what nobody waits for": """\
class Reader(FastHttpUser):
    @task
    def read(self):
        gevent.spawn(self.client.get, "/500")
""",
    "a native thread of gevent's": """\
class Reader(HttpUser):
    @task
    def read(self):
        gevent.get_hub().threadpool.apply(self.client.get, ("/500",))
""",
    "an error that a greenlet dies of": """\
class Reader(FastHttpUser):
    def look(self):
        assert self.client.get("/ok").text == "what it never says"

    @task
    def read(self):
        gevent.joinall([gevent.spawn(self.look)])
""",
}


@pytest.mark.parametrize("where", SENT_ELSEWHERE)
def test_a_request_that_fails_outside_of_the_tasks_greenlet_fails_the_task(where: str, tmp_path: Path) -> None:
    path = write_locustfile(tmp_path, HEAD + SENT_ELSEWHERE[where])
    with serving() as api, LoadGenerator() as generator:
        found = generator.measure(plan(api.url, locustfile=path, max_s=6), lambda _: None)
    if where == "what nobody waits for":  # such a task has no time of its own, so the generator may be the limit
        assert found.outcome in ("infeasible", "invalid"), found
        return
    assert found.outcome == "infeasible", found
    assert "http 500" in found.reason or "AssertionError" in found.reason


def test_locusts_options_and_folder_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data.csv").write_text("ok\n", encoding="utf-8")
    (tmp_path / "beside.py").write_text("PREFIX = '/'\n", encoding="utf-8")
    monkeypatch.setenv("GREETING", "hello")
    path = write_locustfile(
        tmp_path,
        HEAD
        + """\
@events.init_command_line_parser.add_listener
def add(parser):
    parser.add_argument("--greeting", default="none", env_var="GREETING")
    parser.add_argument("--times", type=int, default=3)

@events.init.add_listener
def init(environment, **_):
    environment.told = environment.runner is not None

class Reader(FastHttpUser):
    @task
    def read(self):
        from beside import PREFIX
        options = self.environment.parsed_options
        assert (options.greeting, options.times, options.host) == ("hello", 3, self.host)
        assert self.environment.told
        with open("data.csv") as file:
            self.client.get(PREFIX + file.read().strip())
""",
    )
    with serving() as api, LoadGenerator() as generator:
        found = generator.measure(plan(api.url, locustfile=path, rates_qps=(20,), rate_s=1), lambda _: None)
    assert found.probes[0].errors == 0, found.probes[0].error_kinds


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("self.client.post('/ok', json={'p': self.environment.no_such_option})", "AttributeError"),
        ("self.client.get('/ok'); self.no_such_thing", "AttributeError"),
        ("self.client.get('/ok'); no_such_name", "NameError"),
        ("import no_such_module", "ModuleNotFoundError"),
        ("open('no_such_file.csv')", "FileNotFoundError"),
        ("[][1]", "IndexError"),
        ("raise SystemExit(3)", "ended the process"),
    ],
)
def test_the_files_own_error_is_not_blamed_on_the_server(line: str, said: str, tmp_path: Path) -> None:
    path = write_locustfile(
        tmp_path, HEAD + f"class Reader(FastHttpUser):\n    @task\n    def read(self):\n        {line}\n"
    )
    with serving() as api, LoadGenerator() as generator, pytest.raises(WrongLocustfile, match=said) as caught:
        generator.measure(plan(api.url, locustfile=path), lambda _: None)
    assert str(caught.value).startswith(f"locustfile: {path}")


def test_an_answer_that_a_task_cannot_read_is_the_servers_failure(tmp_path: Path) -> None:
    text = (
        "class Reader(FastHttpUser):\n    @task\n    def read(self):\n        self.client.get('/ok').json()['answer']\n"
    )
    path = write_locustfile(tmp_path, HEAD + text)
    with serving() as api, LoadGenerator() as generator:
        found = generator.measure(plan(api.url, locustfile=path, max_s=6), lambda _: None)
    assert found.outcome == "infeasible"


def test_a_locustfile_is_checked_before_anything_is_launched(tmp_path: Path) -> None:
    with pytest.raises(WrongLocustfile, match=r"locustfile\.py:1: SyntaxError"):
        check_locustfile(write_locustfile(tmp_path, "def (:\n"))
    needed = (
        HEAD
        + """\
@events.init_command_line_parser.add_listener
def add(parser):
    parser.add_argument("--token", required=True)

class Reader(FastHttpUser):
    @task
    def read(self):
        pass
"""
    )
    with pytest.raises(LoadTestError, match="--token"):
        check_locustfile(write_locustfile(tmp_path, needed))
