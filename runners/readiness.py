"""When a launched server is ready: its health path answers 2xx, and then one real request is answered.

Both, because some servers report ready seconds before they serve, and some have no health path at all.

What is wrong while a server starts is waited out: silence, errors, a redirect to a page that says so. What no server
answers because it starts ends the wait as soon as it has lasted: a redirect that is for good, by its status (301, 308)
or because it leads to the same path (`/predict/`, https), an answer whose compression cannot be read, and a status that
refuses the method (405, 501). One that refuses who asks, or what is sent, is waited for a little longer: a gateway may
learn of its users late. Servers that load a model answer 400, 404 and 503, so these tell nothing for as long as there
is no health path that has answered; and until then what stands before a model may refuse all requests, as a web server
that has only its files does with 405. So refusals are then waited out for a part of the whole time.
"""

from __future__ import annotations

import contextlib
import math
import re
import signal
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import httpx

from runners.host.bounded_http import bounded_client
from runners.protocol import Container, Readiness, SampleRequest, ServerFailed, Tls
from search_spaces.masking import masked
from search_spaces.reading import foreign

_POLL_S, _SLOWEST_POLL_S = 0.02, 0.25
_HEALTH_TIMEOUT_S = 2.0
_REFUSED = "connection refused"
_GRACE_S = 10.0  # for a real request that is answered with errors after the health path was fine
_MAX_REDIRECTS = 5
_FOR_GOOD = (301, 308)
_LASTING_S, _LASTING_TRIES = 3.0, 3
_NO_METHOD, _NO_ACCESS, _NOT_TAKEN = (405, 501), (401, 403), (411, 413, 414, 415, 422)
_REFUSALS = (*_NO_METHOD, *_NO_ACCESS, *_NOT_TAKEN)
_PART_OF_TIMEOUT = 0.1
_EXCERPT, _READ_BYTES = 160, 4096  # letters that a message shows; of a body, more is read, lest a secret is cut in two
_ERROR = re.compile(
    r"error|exception|fatal|fail|cannot|denied|in use|no such|not found|invalid|was sent SIGKILL", re.IGNORECASE
)  # fmt: skip
# A client that went away; Python's servers print that as an error, and go on.
_CLIENT_LEFT = re.compile(r"(BrokenPipe|ConnectionReset|ConnectionAborted)Error:")
# What gunicorn and uvicorn say at last of a worker that did not start; why, it has said itself before that.
_LAUNCHER = re.compile(
    r"Worker failed to boot|Shutting down: Master|Worker \(pid:\s*\d+\) (exited|was sent (?!SIGKILL))"
    r"|Application startup failed|Child process \[\d+\] died", re.IGNORECASE
)  # fmt: skip
_SHORTLY = 5  # lines, without empty ones
_NO_CAUSE = re.compile(r"\b(warn(ing)?|info|debug)\b", re.IGNORECASE)
_MEMORY = re.compile(
    r"out[ _]?of[ _]?memory|MemoryError|bad_alloc|cannot allocate memory|unable to allocate|failed to allocate|"
    r"no available memory", re.IGNORECASE
)  # fmt: skip
_LAST_LINES = 40
_SAYS_ERROR = re.compile(  # at the beginning of a JSON object; not of what is empty
    rb'\s*\{[^{}\[\]]*?(?:"errors?"\s*:(?!\s*(?:null|false|0|""|\[\]|\{\}))|"success"\s*:\s*false|'
    rb'"status"\s*:\s*"(?:error|fail))', re.IGNORECASE
)  # fmt: skip
_TAGS = re.compile(rb"<(head|style|script)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)
MAY_BE_ERRORS = "if that is a failure, all are counted as good"
_NO_CHECK = (
    "The real request was answered with {status} and {body}: " + MAY_BE_ERRORS + "; "
    "request.check says what a good answer is."
)


class Seen(NamedTuple):
    """What is wrong with an answer (None: nothing), whether there was one, and for how long it has to last until no
    later one is expected to be better.

    `silent`: somebody took the connection, and said nothing in time.
    """

    wrong: str | None
    answered: bool
    final_s: float = math.inf
    status: int | None = None
    silent: bool = False

    def like(self, other: Seen) -> bool:
        """Whether both say the same; a body may hold the time, or a number of the request."""
        if self.status is None:
            return self == other
        return (self.status, self.final_s) == (other.status, other.final_s)

    def patiently(self, readiness: Readiness) -> Seen:
        """The same of a server that has shown no health: a refusal may be that of what stands before it."""
        if self.status not in _REFUSALS:
            return self
        return self._replace(final_s=max(self.final_s, _GRACE_S, _PART_OF_TIMEOUT * readiness.timeout_s))


def await_server(
    url: str, container: Container, check: Callable[[], None], log_tail: Callable[[], str],
    elsewhere: Callable[[], str] = lambda: "",
) -> tuple[str, ...]:  # fmt: skip
    """`wait_until_ready`, unless the launch is called off meanwhile. A failure carries the end of what the server
    printed, and ends with `elsewhere`: where it listens, if not where it was asked.
    """

    def check_launch() -> None:
        container.go_on()
        check()

    try:
        prepare = None if container.prepare is None else partial(container.prepare, url, container)
        return wait_until_ready(url, container.readiness, check_launch, prepare)
    except ServerFailed as error:
        raise ServerFailed(f"{error.reason}{elsewhere()}", error.log_tail or log_tail()) from error


def wait_until_ready(
    url: str, readiness: Readiness, check: Callable[[], None], prepare: Callable[[], SampleRequest | None] | None = None
) -> tuple[str, ...]:
    """Blocks. `check` raises when the server is gone. `prepare` makes the request that is asked, once the server can be
    asked. Returns what a trial should say of the answer. Raises ServerFailed with what was seen last.
    """
    doubts: list[str] = []
    deadline = time.monotonic() + readiness.timeout_s
    # No proxy from the environment stands between us and a server on this machine.
    with bounded_client(url, timeout_s=readiness.timeout_s, verify=trust(readiness.tls)) as client:
        path = readiness.path
        if path is not None:
            seen = _poll(lambda left: _health(client, path, left).patiently(readiness), deadline, deadline, check)
            if seen is not None:
                within = f" within {_limit(readiness)}" if time.monotonic() >= deadline else ""
                raise ServerFailed(f"not ready{within}: {path}: {seen}")
        request = readiness.request if prepare is None else prepare()
        if request is None:
            if path is None and (seen := _poll(lambda left: _any(client, left), deadline, deadline, check)):
                raise ServerFailed(f"not ready within {_limit(readiness)}: {seen}")
            return ()
        error_deadline = min(deadline, time.monotonic() + _GRACE_S) if path is not None else deadline

        # The first request may compile or load something, so it may take all the time that is left. No redirect is
        # followed: the load test does not follow any either.
        def ask(left: float) -> Seen:
            seen = _ask(client, request, left, doubts)
            return seen.patiently(readiness) if path is None else seen

        seen = _poll(ask, deadline, error_deadline, check)
        if seen is not None:
            raise ServerFailed(f"did not answer the real request {request.method} {request.path}: {seen}")
    return tuple(doubts)


def _limit(readiness: Readiness) -> str:
    """How long was waited, by which key of the spec."""
    return f"{readiness.timeout_s:g} s (service.ready.timeout)"


def trust(tls: Tls | None) -> ssl.SSLContext | bool:
    """What httpx checks a certificate against. Raises ServerFailed for a file without certificates."""
    if tls is None or not tls.verify:
        return False
    try:
        return ssl.create_default_context(cafile=tls.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ServerFailed(f"{tls.ca_file} holds no certificates: {error}") from error


def _poll(
    ask: Callable[[float], Seen], deadline: float, error_deadline: float, check: Callable[[], None]
) -> str | None:
    """Ask until the answer is good (None), or return what was last seen.

    Errors that the server itself answers are waited out until `error_deadline`, silence until `deadline`; what lasts is
    waited out for as long as it takes to see that it does.
    """
    pause, before, since, tries = _POLL_S, Seen(None, answered=False), 0.0, 0
    while True:
        check()
        left = max(0.1, deadline - time.monotonic())
        seen = ask(left)
        check()
        now = time.monotonic()
        if seen.silent and left < _HEALTH_TIMEOUT_S and before.wrong not in (None, _REFUSED):
            seen = before  # the deadline cut this try short: the ones before say more
        if not tries or not seen.like(before):
            since, tries = now, 0
        before = seen
        tries += 1
        lasted = tries >= _LASTING_TRIES and now >= since + seen.final_s
        if seen.wrong is None or lasted or now >= (error_deadline if seen.answered else deadline):
            return seen.wrong
        time.sleep(pause)
        pause = min(_SLOWEST_POLL_S, pause * 1.2)


def _health(client: httpx.Client, path: str, left: float) -> Seen:
    # An unhealthy server answers errors for as long as it loads: that is not yet a failure.
    asked = SampleRequest("GET", path)
    seen = _ask(client, asked, min(left, _HEALTH_TIMEOUT_S), redirects=_MAX_REDIRECTS, key="service.ready.path")
    return seen._replace(answered=False)


def _any(client: httpx.Client, left: float) -> Seen:
    seen = _ask(client, SampleRequest("GET", "/"), left)
    return Seen(None, answered=True) if seen.answered else seen


def _ask(
    client: httpx.Client, request: SampleRequest, timeout_s: float, doubts: list[str] | None = None, *,
    redirects: int = 0, key: str = "request.path",
) -> Seen:  # fmt: skip
    """Ask once, and follow so many redirects within the same server: another one's health says nothing about it. A good
    answer that says itself that it is none is told in `doubts`.
    """
    try:
        asked = client.build_request(
            request.method, request.path, headers=encoded(request.headers), content=request.body, timeout=timeout_s
        )
        response, begins = _received(client, asked)
        while redirects and (following := response.next_request) and _server_of(following) == _server_of(asked):
            redirects -= 1
            response, begins = _received(client, following)
    except httpx.TimeoutException:
        return Seen(f"no answer within {timeout_s:.3g} s", answered=False, silent=True)
    except httpx.ConnectError as error:
        return Seen(f"no TLS connection ({error})" if "SSL" in str(error) else _REFUSED, answered=False)
    except httpx.InvalidURL as error:
        raise ServerFailed(f"{request.path!r} is not a path that can be requested: {error}") from error
    except httpx.HTTPError as error:
        said = printable(str(error).encode()) or type(error).__name__
        final_s = _LASTING_S if isinstance(error, httpx.DecodingError) else math.inf
        return Seen(f"no proper HTTP answer: {said}", answered=False, final_s=final_s)
    if response.status_code in request.good if request.good else response.is_success:
        if doubts is not None and not request.checked and _SAYS_ERROR.match(begins[:_EXCERPT]):
            doubts.append(_NO_CHECK.format(status=response.status_code, body=foreign(excerpt(begins))))
        return Seen(None, answered=True)
    return _wrong(response, asked, begins, key)


def _wrong(response: httpx.Response, asked: httpx.Request, begins: bytes, key: str) -> Seen:
    """What is seen in an answer that is not good."""
    status, said = response.status_code, excerpt(_of_page(begins))
    final_s, advice = _refusal(status, asked.method, key)
    if (following := response.next_request) is not None:
        said = _redirect(asked, following, key)
        same_path = following.url.path.rstrip("/") == asked.url.path.rstrip("/")
        final_s = _LASTING_S if status in _FOR_GOOD or same_path else math.inf
    return Seen(f"answered {status}" + (f" ({said})" if said else "") + advice, True, final_s, status)


def _of_page(body: bytes) -> bytes:
    """The text of an HTML page, whose own words come after a page of tags; anything else as it is."""
    return _TAGS.sub(b" ", body) if body.lstrip().startswith(b"<") else body


def _refusal(status: int, method: str, key: str) -> tuple[float, str]:
    """For how long such a status has to last until it is final, and what to do about it."""
    where = "request" if key == "request.path" else key
    if status in _NO_METHOD:
        keys = "request.method or request.path" if where == "request" else key
        return _LASTING_S, f"; it takes no {method} there: correct {keys}"
    if status in _NO_ACCESS:
        advice = "correct request.auth" if where == "request" else f"{key} is asked without request.auth"
        return _GRACE_S, f"; {advice}"
    if status in _NOT_TAKEN:
        return _GRACE_S, f"; correct {where}"
    return math.inf, f"; is {key} right?" if status == httpx.codes.NOT_FOUND else ""


def _redirect(asked: httpx.Request, following: httpx.Request, key: str) -> str:
    """Where it leads, and what to do."""
    to = following.url.raw_path.decode("ascii")
    if _server_of(following) != _server_of(asked):
        to = f"another server, {_server_of(following)}{to}"
    return f"a redirect to {excerpt(to.encode())}, which is not followed: {key} must answer itself"


def _received(client: httpx.Client, request: httpx.Request) -> tuple[httpx.Response, bytes]:
    """One answer, read to its end, and how its body begins."""
    begins = b""
    with contextlib.closing(client.send(request, stream=True, follow_redirects=False)) as response:
        for chunk in response.iter_bytes():
            begins += chunk[: _READ_BYTES - len(begins)]
    return response, begins


def _server_of(request: httpx.Request) -> str:
    """`http://127.0.0.1:8000`: what an address names besides the path."""
    url = request.url
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers encoded as the load test sends them, since httpx by itself would take ASCII only."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def last_words(log: str) -> str:
    """The last line that names an error in the log of a server that has ended; empty if there is none. No server ends
    because a client left. That a launcher's worker failed is said where the worker said nothing itself.
    """
    raw = [line for line in log.splitlines() if line.strip()]
    lines = [printable(line.encode()) for line in raw]
    last = next((line for line in reversed(lines) if _names_error(line)), "")
    return ((_LAUNCHER.search(last) and _of_worker(raw, lines)) or last)[:_EXCERPT]


def _names_error(line: str) -> bool:
    return _ERROR.search(line) is not None and _CLIENT_LEFT.match(line) is None


def _of_worker(raw: Sequence[str], lines: Sequence[str]) -> str:
    """The error that a worker named shortly before its launcher said that it failed, or else how the last traceback
    ends: of what came long before, the worker recovered. `raw` are the lines with their indentation.
    """
    after = [at for at, line in enumerate(lines) if _LAUNCHER.search(line)]
    near = sorted({at - back for at in after for back in range(1, min(_SHORTLY, at) + 1)}, reverse=True)
    begun = next((at for at in reversed(range(len(raw))) if "Traceback (most recent" in raw[at]), len(raw))
    ends = next((at for at in range(begun + 1, len(raw)) if not raw[at][0].isspace()), None)
    likely = [*near, *([] if ends is None else [ends])]
    own = (lines[at] for at in likely if not (_LAUNCHER.search(lines[at]) or _NO_CAUSE.search(lines[at])))
    return next(filter(_names_error, own), "")


def exited(code: int) -> str:
    """How a server ended by itself, in words; it should not have ended at all."""
    if code == 0:
        return "the server exited with code 0, as if it had finished; its command has to run for as long as it serves"
    # Engines and shells count the signal that ended it from 128.
    named = {one + 128: one.name for one in signal.Signals}
    return f"the server exited with code {code}" + (f" ({named[code]})" if code in named else "")


def with_last_words(reason: str, log_tail: str) -> ServerFailed:
    """The failure of a server that has ended, with the last error that it printed."""
    said = last_words(log_tail)
    return ServerFailed(reason + (f": {said}" if said else ""), log_tail)


def out_of_memory(log: str) -> str:
    """The last line in which a server that has ended names an error for want of memory, its device's or the host's; or
    else nothing. PyTorch, CUDA, vLLM, llama.cpp, Java and C++ say it so, and no runner sees what a GPU lacked.
    """
    lines = (printable(line.encode()) for line in reversed(log.splitlines()[-_LAST_LINES:]))
    named = (line for line in lines if _MEMORY.search(line) and (_ERROR.search(line) or "bad_alloc" in line))
    return next((line[:_EXCERPT] for line in named), "")


def printable(text: bytes) -> str:
    """Text that is safe in a message: a server's body may hold anything, even a terminal's control sequences. Secrets
    are masked here, since who cuts the text afterwards might leave half of one.
    """
    plain = masked(text.decode("utf-8", errors="replace"))
    return " ".join("".join(letter if letter.isprintable() else " " for letter in plain).split())


def excerpt(text: bytes) -> str:
    """How a text begins, as a message shows it."""
    return printable(text[:_READ_BYTES])[:_EXCERPT]
