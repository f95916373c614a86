"""A server of which only the URL is known: somebody else runs it, here or elsewhere."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psutil

from runners.protocol import InClusterLoad, Readiness, Recorded, ServerFailed, Usage

_LOOK_EVERY_S = 1.0
_CONNECT_S = 2.0
_REFUSED_TIMES = 2  # in a row, before a server counts as gone


class WrongUrl(ValueError):
    """A text that is not the address of a server; the message says what is wrong with it."""


@dataclass(frozen=True)
class Address:
    """Where a server answers: `url` has no path and no credentials."""

    url: str
    scheme: str
    host: str
    port: int

    @property
    def is_here(self) -> bool:
        """Whether the host is this machine, as far as its addresses tell."""
        with contextlib.suppress(OSError, ValueError):
            address = ipaddress.ip_address(socket.gethostbyname(self.host))
            own = {one.address for addresses in psutil.net_if_addrs().values() for one in addresses}
            return address.is_loopback or str(address) in own
        return False


def address_of(text: str) -> Address:
    """Read `http://host:port`. Raises WrongUrl; the text of a URL with credentials is not repeated."""
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise WrongUrl(f"is not a URL ({error})") from error
    if parts.username is not None or parts.password is not None:
        raise WrongUrl("holds a user or a password; name a variable with them in request.auth")
    if parts.scheme not in ("http", "https") or not host:
        raise WrongUrl(f"{text.strip()[:80]!r} is not a URL such as http://10.0.0.7:8000")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise WrongUrl(f"{text.strip()[:80]!r} has a path; write that in request.path and leave the address alone here")
    name = f"[{host}]" if ":" in host else host
    port = port or (443 if parts.scheme == "https" else 80)
    return Address(f"{parts.scheme}://{name}:{port}", parts.scheme, host, port)


def check_scheme(address: Address, readiness: Readiness) -> None:
    """Raises WrongUrl where the spec's `request.tls` and the address disagree about TLS."""
    if address.scheme != readiness.scheme:
        wanted = "request.tls is set" if readiness.scheme == "https" else "https needs request: {tls: {verify: true}}"
        raise WrongUrl(f"{address.url} speaks {address.scheme}, and {wanted}")


@dataclass
class RemoteServer:
    """An Endpoint. `check` looks at most once a second whether anything still listens there; a network that does not
    answer is no proof that the server is gone, so only refused connections count.
    """

    address: Address
    cold_start_s: float
    notes: tuple[str, ...]
    image: str | None = None
    reused_from: int | None = None
    recorded: Recorded | None = None
    beside: InClusterLoad | None = None
    client_cores: tuple[int, ...] = ()
    _looked: float = 0.0
    _refused: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """The URL that the user named."""
        return self.address.url

    @property
    def shares_cores(self) -> bool:
        """True if it is on this machine, where it may run on the load generator's cores."""
        return self.address.is_here

    def check(self) -> None:
        """Raises ServerFailed once nothing listens there any more."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked < _LOOK_EVERY_S:
                return
            self._looked = now
            self._refused = self._refused + 1 if _is_refused(self.address) else 0
            if self._refused >= _REFUSED_TIMES:
                raise ServerFailed(f"nothing listens at {self.address.url} any more")

    def usage(self, start: float, end: float) -> Usage:  # noqa: ARG002
        """Empty: the server's use of resources cannot be seen from here."""
        return Usage()


def _is_refused(address: Address) -> bool:
    try:
        with socket.create_connection((address.host, address.port), timeout=_CONNECT_S):
            return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
