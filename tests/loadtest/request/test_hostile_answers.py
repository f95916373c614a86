"""Answers that are compressed, endless, or no answers at all: each request ends in time, and costs little memory."""

from __future__ import annotations

import gzip
import resource
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from loadtest import LatencyLimit, LoadPlan, RequestPlan, Slo
from loadtest.request.decoding import MAX_BODY_BYTES, AnswerError, DecodedLines, Decoder, decoded_body

GOOD = b'{"ok": 1, "pad": "' + b"x" * 40 + b'"}'


class Answer:
    """A body that comes in pieces of a few bytes."""

    def __init__(self, body: bytes, size: int = 7) -> None:
        self._pieces = [body[at : at + size] for at in range(0, len(body), size)]

    def piece(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def raw_deflate(body: bytes) -> bytes:
    packing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packing.compress(body) + packing.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("gzip, deflate", lambda body: zlib.compress(gzip.compress(body))),
        ("identity", bytes),
        ("", bytes),
    ],
)
def test_an_answer_is_decoded_before_it_is_read(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    for size in (1, 7, 4096):
        assert decoded_body(Answer(pack(GOOD), size), encoding) == GOOD
        lines = DecodedLines(Answer(pack(b"data: 1\n\ndata: 2\n\n"), size), encoding)
        assert [lines.readline(b"\n") for _ in range(5)] == [b"data: 1\n", b"\n", b"data: 2\n", b"\n", b""]


def test_what_cannot_be_decoded_says_so() -> None:
    with pytest.raises(AnswerError, match="'br'"):
        Decoder("br")
    with pytest.raises(AnswerError, match="not compressed as it says"):
        decoded_body(Answer(GOOD), "gzip")
    with pytest.raises(AnswerError, match="cut off"):
        decoded_body(Answer(gzip.compress(GOOD)[:-12]), "gzip")
    with pytest.raises(AnswerError, match="64 MiB"):
        decoded_body(Answer(gzip.compress(bytes(2 * MAX_BODY_BYTES)), 65536), "gzip")


def head(status: bytes = b"200 OK", *more: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *more, b"", b""])


def endless(piece: bytes) -> Callable[[socket.socket], None]:
    def send(client: socket.socket) -> None:
        while True:
            client.sendall(piece)

    return send


def dribble(client: socket.socket) -> None:
    client.sendall(head(b"200 OK", b"Content-Length: 100000"))
    while True:
        client.sendall(b"x")
        time.sleep(0.05)


def after(first: bytes, send: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    def both(client: socket.socket) -> None:
        client.sendall(first)
        send(client)

    return both


CHUNKED = head(b"200 OK", b"Transfer-Encoding: chunked")
CHUNK = b"10000\r\n" + b"x" * 65536 + b"\r\n"
HOSTILE: dict[str, tuple[Callable[[socket.socket], None], str]] = {
    "endless 100 Continue": (endless(head(b"100 Continue")), "before its body"),
    "endless 103 Early Hints": (endless(head(b"103 Early Hints", b"Link: </x>")), "before its body"),
    "endless headers": (after(b"HTTP/1.1 200 OK\r\n", endless(b"X: " + b"a" * 60000 + b"\r\n")), "before its body"),
    "one endless header": (after(b"HTTP/1.1 200 OK\r\nX: ", endless(b"a" * 65536)), "before its body"),
    "an endless body": (after(CHUNKED, endless(CHUNK)), "timeout"),
    "an endless trailer": (after(CHUNKED + b"0\r\n", endless(b"X: " + b"a" * 60000 + b"\r\n")), "timeout"),
    "a dribbled body": (dribble, "timeout"),
    "rubbish": (lambda client: client.sendall(b"\x00\x01rubbish\r\n\r\n"), "broken answer"),
}


def once(answer: bytes) -> Callable[[socket.socket], None]:
    def send(client: socket.socket) -> None:
        client.sendall(answer)
        client.shutdown(socket.SHUT_RDWR)

    return send


# Answers that end at once and are not as HTTP has them: what the load generator says of each.
MALFORMED: dict[str, tuple[Callable[[socket.socket], None], str]] = {
    "HTTP/0.9": (once(b"hello world"), "broken answer"),
    "a body that is cut": (once(head(b"200 OK", b"Content-Length: 100") + b"x"), "broken answer"),
    "a negative length": (once(head(b"200 OK", b"Content-Length: -1") + b"x"), "broken answer"),
    "two lengths": (once(head(b"200 OK", b"Content-Length: 1", b"Content-Length: 5") + b"x"), "broken answer"),
    "a length of 10^20": (once(head(b"200 OK", b"Content-Length: 1" + b"0" * 20) + b"x"), "broken answer"),
    "a chunk without a size": (once(CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n"), "broken answer"),
    "a chunk of 2^64 bytes": (once(CHUNKED + b"FFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n"), "broken answer"),
    "a status of 0": (once(head(b"0 X", b"Content-Length: 0")), "broken answer"),
    "NUL in a header": (once(head(b"200 OK", b"X: a\0b", b"Content-Length: 2") + b"{}"), "broken answer"),
    "another protocol": (once(head(b"101 Switching Protocols", b"Upgrade: x")), "broken answer"),
    "nothing": (socket.socket.close, "connection closed"),
}


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    def handle(client: socket.socket) -> None:
        try:
            while client.recv(65536):
                answer(client)
        except OSError:
            pass
        finally:
            client.close()

    def accept() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


# The transport needs gevent's patches, which this process must not have.
SEND = """\
import gevent.monkey; gevent.monkey.patch_all()
import sys, time
from loadtest.request.bodies import Body
from loadtest.plan import LoadPlan
from loadtest.generator.wire.transport import Transport
transport = Transport(LoadPlan.model_validate_json(sys.argv[1]), [Body(b"")])
begun = time.monotonic()
reply = transport.send()
print(f"{time.monotonic() - begun:.3f}", reply.failure)
"""


def sent(url: str, **request: object) -> tuple[float, str]:
    """How long one request took, and its failure; in a process that may have 1 GiB of memory."""
    slo = Slo(latency=(LatencyLimit(percentile=99, limit_ms=200),))
    asked = RequestPlan.model_validate({"method": "GET", **request})
    plan = LoadPlan(url=url, request=asked, slo=slo, request_timeout_s=0.5)
    done = subprocess.run(
        [sys.executable, "-c", SEND, plan.model_dump_json()], capture_output=True, text=True, timeout=30, check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30)),
    )  # fmt: skip
    took, _, failure = done.stdout.strip().partition(" ")
    return float(took), failure


@pytest.mark.usefixtures("needs_machine")
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("request_", [{}, {"check": {"json_paths": {"$.ok": 1}}}, {"stream": "openai"}])
def test_a_hostile_answer_ends_in_time(kind: str, request_: dict[str, object]) -> None:
    answer, failure = HOSTILE[kind]
    with serving(answer) as url:
        took, said = sent(url, **request_)
    assert took < 8  # 1 to 2 s, on a machine that is not busy
    assert failure in said or "64 MiB" in said, said


@pytest.mark.usefixtures("needs_machine")
@pytest.mark.parametrize("kind", ["HTTP/0.9", "two lengths", "a chunk of 2^64 bytes", "nothing"])
def test_a_malformed_answer_is_a_failure_of_the_request(kind: str) -> None:
    answer, failure = MALFORMED[kind]
    with serving(answer) as url:
        assert sent(url)[1] == failure


@pytest.mark.usefixtures("needs_machine")
def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with serving(once(head(b"302 Found", b"Location: /", b"Content-Length: 0"))) as url:
        assert sent(url)[1] == "http 302"


@pytest.mark.usefixtures("needs_machine")
def test_an_answer_that_comes_in_gzip_passes_its_check() -> None:
    body = gzip.compress(GOOD)
    answer = head(b"200 OK", b"Content-Encoding: gzip", b"Content-Length: %d" % len(body)) + body
    with serving(lambda client: client.sendall(answer)) as url:
        assert sent(url, check={"json_paths": {"$.ok": 1}})[1] == "None"
        assert sent(url, check={"json_paths": {"$.ok": 2}})[1] == "the answer fails the check of $.ok"
