"""Cores of one's own."""

from __future__ import annotations

import threading
import time

import pytest

from runners.host.cores import Cores


def test_servers_wait_for_cores_that_others_hold_and_share_only_what_nobody_asked_for() -> None:
    cores = Cores(lambda: (0, 1, 2, 3))
    looks: list[int] = []
    with cores.take(2, lambda: None) as one, cores.take(1, lambda: None) as two:
        assert (one.server, two.server, two.client) == ((0, 1), (2,), (3,))
        assert not one.shared

        def third() -> None:
            with cores.take(2, lambda: looks.append(0)) as found:
                looks.extend(found.server)

        thread = threading.Thread(target=third)
        thread.start()
        time.sleep(0.4)
        assert set(looks) == {0}
        looks.clear()
        with cores.take(None, lambda: None) as unlimited:
            assert (unlimited.server, unlimited.client) == ((0, 1, 2), (3,)), "a server without a number of cores"
            assert not unlimited.shared
    thread.join(5)
    assert len(looks) >= 2
    with cores.take(4, lambda: None) as whole:
        assert whole.shared


def test_a_server_that_asks_for_no_cores_leaves_some_to_the_generator_and_holds_them_all() -> None:
    sixteen = Cores(lambda: tuple(range(16)))
    with sixteen.take(None, lambda: None) as server, sixteen.take(None, lambda: None) as another:
        assert server.client == another.client == (14, 15), "one in eight"
        assert server.server == tuple(range(14))

        def no_more() -> None:
            raise InterruptedError

        with pytest.raises(InterruptedError), sixteen.take(1, no_more):
            pass
    with Cores(lambda: (3,)).take(None, lambda: None) as alone:
        assert alone.shared
