"""A way from this machine to a pod: its own address where that can be reached, else a port-forward through the API.

A port-forward copies every byte through two processes and the API server: fine to ask whether a server is ready, but it
distorts what is measured through it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from kubernetes import client
from kubernetes.stream import portforward

from runners.kubernetes.cluster import Cluster

_CONNECT_S = 1.0
_PIECE = 65_536


def is_reachable(host: str, port: int) -> bool:
    """Whether there is a way to the address: refused is an answer too, since the server may not listen yet."""
    try:
        socket.create_connection((host, port), _CONNECT_S).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


def url_of(scheme: str, host: str, port: int) -> str:
    """The URL of a pod, whose address may be one of IPv6."""
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


@contextlib.contextmanager
def forwarded(cluster: Cluster, pod: str, port: int) -> Iterator[int]:
    """A port of 127.0.0.1 that leads to the pod's, for as long as the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, cluster, pod, port), name="port-forward", daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, cluster: Cluster, pod: str, port: int) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(near, cluster, pod, port), name="port-forward", daemon=True).start()


def _serve(near: socket.socket, cluster: Cluster, pod: str, port: int) -> None:
    """One connection. The client's own API object: a stream changes it while it opens, for all who use it."""
    with near, contextlib.suppress(Exception):  # whatever breaks it, the client sees a connection that was closed
        api = client.CoreV1Api(client.ApiClient(cluster.api.configuration))
        forward = portforward(api.connect_get_namespaced_pod_portforward, pod, cluster.namespace, ports=str(port))
        far = forward.socket(port)
        far.setblocking(True)
        back = threading.Thread(target=_copy, args=(far, near), name="port-forward", daemon=True)
        back.start()
        _copy(near, far)
        back.join()


def _copy(source: Any, target: Any) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
