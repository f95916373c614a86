"""Where a server in a container listens, by what the kernel says of the container's network."""

from __future__ import annotations

import os
import socket

import pytest

from runners.host.ports import elsewhere_inside, tables_of

_LINE = " 0: {at} {peer} {state} 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0\n"
_LOOPBACK, _ANYWHERE, _ENGINES_OWN = "0100007F:1F40", "00000000:1F40", "0B00007F:A1B2"
_ANYWHERE_6, _MAPPED = "0" * 32 + ":1F40", "0000000000000000FFFF00000100007F:1F40"


def table(*sockets: str, state: str = "0A") -> str:
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    return head + "".join(_LINE.format(at=at, peer="00000000:0000", state=state) for at in sockets)


@pytest.mark.parametrize("sockets", [(_LOOPBACK,), (_ENGINES_OWN, _LOOPBACK), (_MAPPED,)])
def test_a_server_on_the_loopback_of_its_container_is_reached_by_nobody(sockets: tuple[str, ...]) -> None:
    assert elsewhere_inside(table(*sockets), 8000) == (
        "; inside its container it listens on 127.0.0.1:8000, and not on 0.0.0.0:8000: pass it {host} and {port}"
    )


@pytest.mark.parametrize(("at", "shown"), [(_ANYWHERE, "0.0.0.0:8000"), ("0100007F:A8E1", "127.0.0.1:43233")])
def test_another_port_may_be_the_servers_or_one_that_it_opens_while_it_loads(at: str, shown: str) -> None:
    assert elsewhere_inside(table(at), 9000) == (
        f"; inside its container it listens on {shown}, and not on 0.0.0.0:9000: if it still loads, lengthen "
        "service.ready.timeout; if it serves there, pass it {host} and {port}"
    )


@pytest.mark.parametrize("tables", ["", table(), table(_ENGINES_OWN), table(_LOOPBACK, state="01")])
def test_a_server_that_does_not_listen_yet_is_nowhere(tables: str) -> None:
    assert elsewhere_inside(tables, 8000) == ""


@pytest.mark.parametrize("address", [_ANYWHERE, _ANYWHERE_6])
def test_a_server_that_listens_where_it_should_is_nowhere_else(address: str) -> None:
    assert elsewhere_inside(table(address, _LOOPBACK), 8000) == ""


def test_the_kernels_own_tables_are_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        row = next(line for line in tables_of(os.getpid()).splitlines() if f":{port:04X} 00000000:0000 0A" in line)
        assert f"it listens on 127.0.0.1:{port}, " in elsewhere_inside(row, port)
    assert tables_of(2**22 + 1) == ""
