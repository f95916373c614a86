"""Finds free ports for servers, and tells which processes listen on a port."""

from __future__ import annotations

import contextlib
import random
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path

import psutil

from runners.host.process_table import Entry
from runners.protocol import RunnerUnavailable

_PORTS = range(20_000, 32_000)
_ALL_PORTS = range(1_024, 65_536)
_REACHED = ("127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1")  # noqa: S104 (where others listen)
_MAX_SHOWN = 3
_LISTENS = "0A"  # TCP_LISTEN in the kernel's tables
_ENGINES_NAMES = "127.0.0.11"  # where Docker answers questions for names, in a container's own network
_ADVICE = "pass it {host} and {port}"
# An engine that loads has sockets of its own (of its workers, say), and a pod may have a proxy.
_OR_LOADS = f"if it still loads, lengthen service.ready.timeout; if it serves there, {_ADVICE}"


class Ports:
    """Hands out ports, each to one caller at a time. Safe to use from several threads."""

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._lock = threading.Lock()

    def take(self) -> int:
        """A free port outside the range from which the kernel gives ports to outgoing connections, such as those of the
        load generator. Where that range is nearly all there is, one of it.
        """
        low, high = _ephemeral()
        with self._lock:
            for ports in candidates(low, high):
                free = [port for port in ports if port not in self._taken]
                for port in random.sample(free, len(free)):
                    if _is_free(port):
                        self._taken.add(port)
                        return port
        raise RunnerUnavailable("no port is free on 127.0.0.1")

    def give_back(self, port: int) -> None:
        """The port's server is gone. May be called twice."""
        with self._lock:
            self._taken.discard(port)


def candidates(low: int, high: int) -> list[list[int]]:
    """The ports to try, the best first, if outgoing connections get ports from `low` to `high`."""
    outside = [port for port in _ALL_PORTS if not low <= port <= high]
    usual = [port for port in outside if port in _PORTS]
    return [usual, outside, list(_ALL_PORTS)]


def listens(entries: Iterable[Entry], port: int) -> bool:
    """Whether one of these processes listens on the port. Also True if we may not look into one of them."""
    try:
        return any(at == port for _, at in listening(entries))
    except psutil.AccessDenied:
        return True


def listening(entries: Iterable[Entry]) -> Iterator[tuple[str, int]]:
    """The addresses and ports on which these processes listen. Raises psutil.AccessDenied."""
    for entry in entries:
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in psutil.Process(entry.pid).net_connections("tcp"):
                if one.status == psutil.CONN_LISTEN:
                    yield one.laddr.ip, one.laddr.port


def elsewhere(entries: Iterable[Entry], port: int) -> str:
    """The end of a message that says where a server listens instead of the port at 127.0.0.1; empty if nowhere."""
    try:
        found = sorted(set(listening(entries)))
    except psutil.AccessDenied:
        return ""
    if not found or any(at == port and address in _REACHED for address, at in found):
        return ""
    return f"; it listens on {_shown(found)}, and not on 127.0.0.1:{port}: {_advice(found, port)}"


def elsewhere_inside(tables: str, port: int) -> str:
    """As `elsewhere`, for a container with a network of its own, whose /proc/net/tcp and tcp6 say this."""
    found = sorted(set(_listening_inside(tables)))
    if not found or any(at == port and not ip_address(address).is_loopback for address, at in found):
        return ""
    return f"; inside its container it listens on {_shown(found)}, and not on 0.0.0.0:{port}: {_advice(found, port)}"


def tables_of(pid: int) -> str:
    """What the kernel says of all TCP sockets in the network that the process has; empty if it does not say."""
    tables = ""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            tables += Path(f"/proc/{pid}/net/{name}").read_text(encoding="ascii")
    return tables


def _listening_inside(tables: str) -> Iterator[tuple[str, int]]:
    for line in tables.splitlines():
        parts = line.split()
        if len(parts) > 3 and parts[3] == _LISTENS:
            words, _, at = parts[1].partition(":")
            numbers = (int(words[i : i + 8], 16) for i in range(0, len(words), 8))
            address = ip_address(b"".join(number.to_bytes(4, sys.byteorder) for number in numbers))
            plain = str(getattr(address, "ipv4_mapped", None) or address)
            if plain != _ENGINES_NAMES:
                yield plain, int(at, 16)


def _advice(found: list[tuple[str, int]], port: int) -> str:
    """What to do. Only who has the very port at another address is surely the server."""
    return _ADVICE if any(at == port for _, at in found) else _OR_LOADS


def _shown(found: list[tuple[str, int]]) -> str:
    pairs = ((f"[{address}]" if ":" in address else address, at) for address, at in found[:_MAX_SHOWN])
    return ", ".join(f"{address}:{at}" for address, at in pairs)


def _ephemeral() -> tuple[int, int]:
    with contextlib.suppress(OSError, ValueError):
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
        return int(low), int(high)
    return 32_768, 60_999


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free to a server
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
