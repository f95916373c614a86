"""Whatever a server answers to the guard, to `manage`, to readiness or about its metrics: in time, and bounded."""

from __future__ import annotations

import gzip
import itertools
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from runners import Readiness, SampleRequest, ServerFailed
from runners.host.bounded_http import MAX_ANSWER_BYTES, bounded_client, bounded_get
from runners.readiness import wait_until_ready
from tests.loadtest.request.test_hostile_answers import (
    CHUNK,
    CHUNKED,
    HOSTILE,
    MALFORMED,
    after,
    endless,
    head,
    once,
    serving,
)

BOMB = gzip.compress(bytes(2 * MAX_ANSWER_BYTES))


@pytest.mark.usefixtures("needs_machine")  # it is timed
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_answer_ends_in_time(kind: str) -> None:
    with serving(HOSTILE[kind][0]) as url:
        begun = time.monotonic()
        with pytest.raises(httpx.HTTPError):
            bounded_get(url, timeout_s=0.5)
        assert time.monotonic() - begun < 3  # six times over, for a machine that is busy


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_answer_is_an_error_of_httpx(kind: str) -> None:
    with serving(MALFORMED[kind][0]) as url, pytest.raises(httpx.HTTPError):
        bounded_get(url, timeout_s=5)


def test_a_redirect_to_itself_is_followed_nowhere() -> None:
    with serving(once(head(b"302 Found", b"Location: /", b"Content-Length: 0"))) as url:
        assert bounded_get(url, timeout_s=5).status_code == 302


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            head(b"302 Found", b"Location: /", b"Content-Length: 0"),
            r"answered 302 \(a redirect to /, which is not followed: request.path must answer itself\)",
        ),
        (
            head(b"200 OK", b"Content-Length: 2", b"Content-Length: 7") + b"ok",
            "no proper HTTP answer: .*Content-Length",
        ),
        (b"hello there\r\n\r\n", "no proper HTTP answer: illegal status line"),
    ],
)
def test_a_server_that_is_never_ready_says_what_it_answered(answer: bytes, says: str) -> None:
    asked = Readiness(path=None, timeout_s=0.5, request=SampleRequest("POST", "/"))
    with serving(once(answer)) as url, pytest.raises(ServerFailed, match=says):
        wait_until_ready(url, asked, lambda: None)


def test_what_a_server_answered_is_said_though_the_last_try_was_cut_short() -> None:
    """The try that the deadline cuts off hears nothing, and is no reason to look for a server that hangs."""
    answers = iter([head(b"404 Not Found", b"Content-Length: 9") + b"no /helth"])

    def once_only(client: socket.socket) -> None:
        client.sendall(next(answers, b""))
        time.sleep(1)

    said = r"not ready within 1.5 s \(service.ready.timeout\): /helth: answered 404 \(no /helth\)"
    with serving(once_only) as url, pytest.raises(ServerFailed, match=said):
        wait_until_ready(url, Readiness("/helth", 1.5, None), lambda: None)


def numbered(status: bytes) -> Callable[[socket.socket], None]:
    """Answers that each say their number, as some say the time."""
    numbers = itertools.count()

    def answer(client: socket.socket) -> None:
        body = b'{"id": %03d}' % next(numbers)
        client.sendall(head(status, b"Content-Length: %d" % len(body)) + body)

    return answer


UNREADABLE = head(b"200 OK", b"Content-Encoding: gzip", b"Content-Length: 5") + b"hello"


@pytest.mark.usefixtures("needs_machine")  # it is timed
def test_what_no_later_answer_will_better_ends_the_wait() -> None:
    moved = head(b"301 Moved Permanently", b"Location: /v2", b"Content-Length: 0")
    elsewhere = head(b"308 Permanent Redirect", b"Location: https://else.where/", b"Content-Length: 0")
    slash = head(b"307 Temporary Redirect", b"Location: /predict/", b"Content-Length: 0")
    ends = {
        "answered 301 (a redirect to /v2, wh": once(moved),
        "another server, htt": once(elsewhere),
        "a redirect to /predict/, whi": once(slash),
        "no proper HTTP answer: the answer is not compressed as it says": once(UNREADABLE),
        "); it takes no POST there: correct request.method or request.path": numbered(b"405 Method Not Allowed"),
        "answered 501; it takes no POST there: cor": once(head(b"501 Not Implemented", b"Content-Length: 0")),
        "answered 401; correct request.auth": once(head(b"401 Unauthorized", b"Content-Length: 0")),
        "); correct request": numbered(b"422 Unprocessable Content"),
    }

    def lasted(says: str, answer: Callable[[socket.socket], None]) -> float:
        begun = time.monotonic()
        asked = Readiness(path=None, timeout_s=60, request=SampleRequest("POST", "/predict"))
        with serving(answer) as url, pytest.raises(ServerFailed, match=re.escape(says)):
            wait_until_ready(url, asked, lambda: None)
        return time.monotonic() - begun

    with ThreadPoolExecutor(len(ends)) as pool:  # each takes three or ten seconds, in which next to nothing happens
        assert all(3 <= one < 30 for one in pool.map(lasted, ends.keys(), ends.values()))


@pytest.mark.usefixtures("needs_machine")  # it is timed
def test_a_health_path_that_takes_no_get_ends_the_wait_too() -> None:
    begun = time.monotonic()
    with (
        serving(once(head(b"405 Method Not Allowed", b"Content-Length: 0"))) as url,
        pytest.raises(ServerFailed, match=r"/infer: answered 405; it takes no GET there: correct service\.ready\.path"),
    ):
        wait_until_ready(url, Readiness("/infer", 60, None), lambda: None)
    assert time.monotonic() - begun < 20


def test_what_a_server_answers_while_it_starts_is_waited_out() -> None:
    begun = time.monotonic()

    def is_waited_out(starting: bytes) -> None:
        def slow(client: socket.socket) -> None:
            client.sendall(starting if time.monotonic() < begun + 4 else head(b"200 OK", b"Content-Length: 0"))

        with serving(slow) as url:
            wait_until_ready(url, Readiness(path=None, timeout_s=60, request=SampleRequest("POST", "/")), lambda: None)

    answers = [
        head(b"302 Found", b"Location: /login", b"Content-Length: 0"),
        head(b"307 Temporary Redirect", b"Location: /loading", b"Content-Length: 0"),
        head(b"400 Bad Request", b"Content-Length: 0"),
        head(b"404 Not Found", b"Content-Length: 0"),
        head(b"405 Method Not Allowed", b"Content-Length: 0"),
        head(b"503 Service Unavailable", b"Content-Length: 0"),
    ]
    with ThreadPoolExecutor(len(answers)) as pool:  # each takes four seconds, in which nothing happens
        list(pool.map(is_waited_out, answers))


def test_the_health_path_is_followed_within_its_server_alone() -> None:
    """What another server says of itself says nothing about this one, and nobody but this one may be asked."""
    asked: list[bytes] = []

    def elsewhere(client: socket.socket) -> None:
        asked.append(b"elsewhere")
        client.sendall(head(b"200 OK", b"Content-Length: 0"))

    def redirecting(to: bytes) -> Callable[[socket.socket], None]:
        return lambda client: client.sendall(head(b"302 Found", b"Location: " + to, b"Content-Length: 0"))

    health = Readiness("/healthz", 0.5, None)
    with serving(elsewhere) as other:
        with (
            serving(redirecting(f"{other}/healthz".encode())) as url,
            pytest.raises(
                ServerFailed, match=rf"302 \(a redirect to another server, {other}/healthz, which is not foll"
            ),
        ):
            wait_until_ready(url, health, lambda: None)
        assert asked == []
        with (
            serving(redirecting(b"/healthz")) as url,
            pytest.raises(
                ServerFailed, match=r"302 \(a redirect to /healthz, .*: service.ready.path must answer itself\)"
            ),
        ):
            wait_until_ready(url, health, lambda: None)  # endlessly to itself


def test_a_health_path_may_lead_to_another_path_of_its_server() -> None:
    class Moved(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/healthz/" else 307)
            self.send_header("Location", "/healthz/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Moved) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        wait_until_ready(f"http://127.0.0.1:{server.server_port}", Readiness("/healthz", 5.0, None), lambda: None)
        server.shutdown()


def test_a_connection_that_is_used_again_has_its_own_time() -> None:
    answer = head(b"200 OK", b"Content-Length: 2") + b"{}"

    def slow(client: socket.socket) -> None:
        time.sleep(0.2)
        client.sendall(answer)

    with (
        serving(slow) as url,
        bounded_client(url, timeout_s=0.5) as client,
    ):
        assert [client.get("/").json() for _ in range(4)] == [{}] * 4


@pytest.mark.parametrize(
    ("encoding", "pack"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress), (b"identity", bytes)]
)
def test_answers_are_decoded(encoding: bytes, pack: object) -> None:
    assert callable(pack)
    body = pack(b'{"ok": 1}')
    answer = head(b"200 OK", b"Content-Encoding: " + encoding, b"Content-Length: %d" % len(body)) + body
    with serving(lambda client: client.sendall(answer)) as url:
        assert bounded_get(url, timeout_s=2).json() == {"ok": 1}


def test_a_small_answer_that_unpacks_to_gigabytes_is_refused() -> None:
    answer = head(b"200 OK", b"Content-Encoding: gzip", b"Content-Length: %d" % len(BOMB)) + BOMB
    with serving(lambda client: client.sendall(answer)) as url, pytest.raises(httpx.DecodingError, match="64 MiB"):
        bounded_get(url, timeout_s=10)


def test_an_endless_answer_is_refused_before_it_fills_the_memory() -> None:
    with (
        serving(after(CHUNKED, endless(CHUNK))) as url,
        pytest.raises(httpx.HTTPError, match=r"64 MiB|longer than"),
    ):
        bounded_get(url, timeout_s=10)


def test_nobody_listening_is_an_error_of_httpx() -> None:
    with pytest.raises(httpx.ConnectError):
        bounded_get("http://127.0.0.1:9", timeout_s=1)


@pytest.mark.parametrize(
    ("body", "doubted"),
    [
        (b'{"error": "no model"}', True),
        (b'{"id": 3, "success": false, "result": []}', True),
        (b'{"status": "failed"}', True),
        (b'{"error": null, "result": 1}', False),
        (b'{"errors": [], "result": 1}', False),
        (b'{"result": {"error": 0.1}}', False),
        (b"data: {}", False),
    ],
)
def test_a_good_status_with_an_error_in_its_body_is_doubted_unless_answers_are_checked(
    body: bytes, *, doubted: bool
) -> None:
    answer = once(head(b"200 OK", b"Content-Length: %d" % len(body)) + body)
    for checked in (False, True):
        with serving(answer) as url:
            asked = SampleRequest("POST", "/", checked=checked)
            said = wait_until_ready(url, Readiness(path=None, timeout_s=5, request=asked), lambda: None)
        assert bool(said) == (doubted and not checked)
