"""`tune clean` where a cluster in which a run launched cannot be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners.kubernetes.owned import remember_cluster
from tests.conftest import Tune


def test_a_cluster_that_is_gone_is_named_and_how_to_forget_it(
    tmp_path: Path, tune_in_process: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "deleted"))
    remember_cluster("kind-gone", "ml")
    [place] = (tmp_path / "state" / "tune" / "clusters").iterdir()
    done = tune_in_process("clean")
    assert done.returncode == 4
    assert "could not look there: namespace ml: no cluster is configured: " in done.stderr
    assert done.stderr.endswith(f"; if that cluster is gone for good, delete {place}\n")
    assert done.stdout == "", "whether something was left there is not known"
    place.unlink()
    done = tune_in_process("clean")
    assert (done.returncode, done.stdout) == (0, "nothing was left behind\n")
