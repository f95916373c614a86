"""Who gets which GPUs, as many as are asked for. None needs to be there."""

from __future__ import annotations

import threading

import pytest

from runners.docker.devices import NamedDevices
from runners.host.devices import Devices, share_of
from runners.host.gpu import Gpu, visible_gpus
from runners.protocol import Infeasible, Resources


def eight() -> Devices:
    return Devices(lambda _: tuple("01234567"))


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_a_server_gets_as_many_as_it_asks_for(count: int) -> None:
    with eight().take(Resources(gpu_type="H100", gpus=count), lambda: None) as given:
        assert given == tuple("01234567")[:count]


def test_a_type_without_a_number_is_one_and_none_is_none() -> None:
    devices = eight()
    with devices.take(Resources(gpu_type="H100"), lambda: None) as given:
        assert given == ("0",)
    for asked in (Resources(), Resources(gpu_type="H100", gpus=0)):
        with devices.take(asked, lambda: None) as given:
            assert given == ()


def test_two_servers_at_once_never_hold_the_same() -> None:
    devices, four = eight(), Resources(gpus=4)
    waited = threading.Event()
    with devices.take(four, lambda: None) as first, devices.take(four, lambda: None) as second:
        assert not set(first) & set(second)
        third: list[tuple[str, ...]] = []

        def wait() -> None:
            with devices.take(Resources(gpus=8), waited.set) as given:
                third.append(given)

        thread = threading.Thread(target=wait)
        thread.start()
        assert waited.wait(5)
        assert not third
    thread.join(5)
    assert third == [tuple("01234567")]


def test_what_its_own_trial_holds_is_not_waited_for() -> None:
    devices = eight()
    with (
        devices.take(Resources(gpus=5), lambda: None, "trial"),
        pytest.raises(Infeasible, match="finds no room on 4 GPUs H100 beside"),
        devices.take(Resources(gpu_type="H100", gpus=4), lambda: None, "trial"),
    ):
        pass


def test_a_device_named_twice_for_docker_counts_once_and_too_few_are_refused() -> None:
    devices = NamedDevices({"A100": ("0", "1", "1"), "A100/1g.10gb": ("MIG-1",)})
    assert devices.refuses(Resources(gpu_type="A100", gpus=2)) is None
    assert "names 2 for it" in str(devices.refuses(Resources(gpu_type="A100", gpus=4)))
    assert "4 GPUs A100" in str(devices.refuses(Resources(gpu_type="A100", gpus=4)))
    assert "names no device" in str(devices.refuses(Resources(gpu_type="T4")))
    assert NamedDevices({"A100": ("0", "1")}).refuses(Resources(gpus=2)) is None


def test_only_those_are_usable_that_we_were_given() -> None:
    gpus = tuple(Gpu(str(one), f"GPU-{one}abc-def", "NVIDIA H100 80GB HBM3", one == 3) for one in range(4))
    assert [one.index for one in visible_gpus(gpus, None)] == ["0", "1", "2"]
    assert [one.index for one in visible_gpus(gpus, "2,0")] == ["2", "0"]
    assert [one.index for one in visible_gpus(gpus, "GPU-1abc")] == ["1"]
    assert visible_gpus(gpus, "") == visible_gpus(gpus, "-1") == visible_gpus(gpus, "3") == ()


def test_services_of_one_trial_share_a_gpu_by_sizes_too() -> None:
    one = Devices(lambda _: ("0",), lambda: 80 * 2**30)
    small, large = Resources(gpu_type="H100", gpu_memory="30Gi"), Resources(gpu_type="H100", gpu_memory="60Gi")
    with one.take(small, lambda: None, "t") as first, one.take(small, lambda: None, "t") as second:
        assert first == second == ("0",)
    with (
        one.take(small, lambda: None, "t"),
        pytest.raises(Infeasible, match="finds no room on the GPU H100/60Gi"),
        one.take(large, lambda: None, "t"),
    ):
        pass


@pytest.mark.parametrize(
    ("slice_", "share"),
    [("8Gi", 0.1), ("100Gi", 1.0), ("25%", 0.25), (0.5, 0.5), ("1g.10gb", 1.0), (None, 1.0), (1, 1.0)],
)
def test_what_a_slice_is_of_80_gib(slice_: str | float | None, share: float) -> None:
    assert share_of(slice_, 80 * 2**30) == pytest.approx(share)
