"""Cores of one's own."""

from __future__ import annotations

import threading
import time

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
            assert unlimited.server == (0, 1, 2, 3)
            assert unlimited.shared
    thread.join(5)
    assert len(looks) >= 2
    with cores.take(4, lambda: None) as whole:
        assert whole.shared
