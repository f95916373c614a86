"""Shares of a GPU: the whole one is a whole GPU, and what a cluster cannot count is refused before a launch."""

from __future__ import annotations

import pytest

from runners.kubernetes.options import PRESETS, ClusterGpus, Slices
from runners.protocol import ParameterValue, Resources

WHOLE: tuple[ParameterValue, ...] = ("100%", 1, 1.0, "1", "1.0")


@pytest.mark.parametrize("preset", ["mig", "aliyun-gpu-mem", "hami-gpumem", "mps", "dra"])
@pytest.mark.parametrize("value", WHOLE)
def test_a_whole_share_is_the_whole_gpu(preset: str, value: ParameterValue) -> None:
    gpus = ClusterGpus(slices=PRESETS[preset])
    whole, share = (Resources(gpu_type="A100", gpu_memory=one, gpus=gpus_) for one, gpus_ in ((None, 2), (value, 2)))
    assert gpus.asked(share) == gpus.asked(whole)
    assert gpus.claim(share) == gpus.claim(whole)
    alone = gpus.asked(Resources(gpu_memory=value))
    assert alone == gpus.asked(Resources(gpus=1)), "without a type, it is one GPU still"


@pytest.mark.parametrize(("value", "count"), [(1, "1"), (1.0, "1"), ("1", "1"), (4, "4"), ("4", "4")])
def test_where_slices_are_counted_one_is_a_number_of_them(value: ParameterValue, count: str) -> None:
    assert ClusterGpus(slices=PRESETS["shared"]).asked(Resources(gpu_memory=value))[0] == {
        "nvidia.com/gpu.shared": count
    }


@pytest.mark.parametrize("value", ["50%", 0.5, "8Gi", 4, "1g.10gb x"])
def test_what_is_no_mig_profile_is_refused(value: ParameterValue) -> None:
    with pytest.raises(ValueError, match=f"the GPU slice '{value}' is no MIG profile; write for example 1g.10gb"):
        ClusterGpus().asked(Resources(gpu_memory=value))


@pytest.mark.parametrize("profile", ["1g.10gb", "7g.80gb", "1g.5gb.me", "1c.3g.20gb"])
def test_a_mig_profile_is_a_resource_of_its_name(profile: str) -> None:
    assert ClusterGpus().asked(Resources(gpu_memory=profile))[0] == {f"nvidia.com/mig-{profile}": "1"}


@pytest.mark.parametrize("value", ["50%", "100%", 0.5])
def test_a_share_is_no_number_of_slices(value: ParameterValue) -> None:
    for slices in (PRESETS["shared"], Slices({"example.com/part": "{value}"})):
        with pytest.raises(ValueError, match=f"the GPU slice '{value}' is no number of .*; write a whole number"):
            ClusterGpus(slices=slices).asked(Resources(gpu_memory=value))
