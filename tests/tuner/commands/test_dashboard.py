"""The dashboard and the report in a real browser: live, offline, harmless, usable by keyboard and on a phone."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import browser, inaccessible, until
from tests.conftest import Tune, call_tune, tune_command, tune_environment
from tuner.commands.dashboard import _bound, _next_to
from tuner.errors import UnfitEnvironmentError

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>\u202e=1+1'
SPEC = """\
version: 1
service: {name: shown}
slo: {p99: 50ms}
space:
  parameters:
    cpu_cores: [1, 2, 4]
    batch: {choices: [1, 2, 4, 8], role: batch_size}
    engine: [eager, 'HOSTILE']
prices: {cpu_core_hour: 0.04}
runner: {type: replay, table: table.csv}
current: {cpu_cores: 4, batch: 1, engine: eager}
"""


def write_study(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC.replace("HOSTILE", HOSTILE.replace("'", "''")), encoding="utf-8")
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("cpu_cores", "batch", "engine", "capacity_qps", "p99_ms", "status", "trial_s"))
        for cores in (1, 2, 4):
            for batch in (1, 2, 4, 8):
                for number, engine in enumerate(("eager", HOSTILE)):
                    capacity = 60 * cores**0.8 * batch**0.3 * (1 + 0.2 * number)
                    writer.writerow((cores, batch, engine, capacity, 20 + 3 * batch, "ok", 60))


@contextlib.contextmanager
def dashboards(folder: Path, *arguments: str, count: int) -> Iterator[list[str]]:
    """Serve what lies in the folder; yields as many addresses as it says, one a line."""
    with subprocess.Popen(
        tune_command("dashboard", *arguments, "--port", 0), cwd=folder, env=tune_environment(folder),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            said = [re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline()) for _ in range(count)]
            yield [one[0] if one else "it said no address" for one in said]
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) in (0, 130)


@contextlib.contextmanager
def dashboard(folder: Path, *arguments: str) -> Iterator[str]:
    """Serve what lies in the folder; yields the address."""
    with dashboards(folder, *arguments, count=1) as [address]:
        yield address


def status(address: str, **headers: str) -> int:
    request = urllib.request.Request(address, headers=headers)
    try:
        with urllib.request.build_opener(_Stay()).open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


@pytest.fixture
def tune(tune_in_process: Tune) -> Tune:
    """No server is launched: nothing here needs a process."""
    return tune_in_process


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run has ended, made once; each test works on a copy."""
    folder = tmp_path_factory.mktemp("finished")
    write_study(folder)
    done = call_tune(folder, "--service", "spec.yaml", "--budget", "12", "--output", "out")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def study(tmp_path: Path, finished: Path) -> Path:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def served(finished: Path) -> Iterator[str]:
    """The address of a dashboard of that run, for tests that change nothing."""
    with dashboard(finished, "out") as address:
        yield address


@pytest.mark.usefixtures("needs_engine")
@pytest.mark.slow
def test_every_tab_works_and_nothing_leaves_the_machine(served: str, tmp_path: Path) -> None:
    with browser(served) as seen:
        page = seen.page
        page.goto(served)
        page.wait_for_selector("#hero .sentence")
        assert "Deploy cpu_cores=" in page.inner_text("#hero")
        page.wait_for_selector("#cost-p99 .main-svg")
        assert page.locator(".js-plotly-plot").count() == 10
        _trials(page)
        _planner(page)
        _exports(page, tmp_path)
        assert page.title() == "tune"
        assert seen.elsewhere == []
        assert seen.complaints == []


def _trials(page) -> None:  # type: ignore[no-untyped-def]
    page.get_by_label("Trials", exact=True).check(force=True)
    page.wait_for_selector(".ag-row")
    page.get_by_label("complete", exact=True).uncheck()
    until(lambda: "complete" not in page.inner_text("#grid"))
    page.get_by_label("complete", exact=True).check()
    page.locator(".ag-row", has_text="complete").first.click()
    page.wait_for_selector("#trial h2")
    assert page.inner_text("#trial h2").startswith("Trial ")


def _planner(page) -> None:  # type: ignore[no-untyped-def]
    page.get_by_label("Capacity plan", exact=True).check(force=True)
    page.wait_for_selector("#plan .sentence")
    before = page.inner_text("#plan")
    handle = page.locator("#spare [role=slider]").first
    handle.focus()
    handle.press("ArrowRight")
    handle.press("ArrowRight")
    until(lambda: page.inner_text("#plan") != before)
    assert "$" in page.inner_text("#plan")


def _exports(page, folder: Path) -> None:  # type: ignore[no-untyped-def]
    page.get_by_label("Export", exact=True).check(force=True)
    until(lambda: "kind: Deployment" in page.locator("#manifest").inner_text())
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(folder / "got.yaml")
    assert "HorizontalPodAutoscaler" in (folder / "got.yaml").read_text(encoding="utf-8")


@pytest.mark.usefixtures("needs_engine")
@pytest.mark.slow
def test_a_live_runs_trials_appear_without_a_reload(tmp_path: Path) -> None:
    write_study(tmp_path)
    with subprocess.Popen(
        tune_command("--service", "spec.yaml", "--budget", "20", "--output", "out"), cwd=tmp_path,
        env=tune_environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as run:  # fmt: skip
        assert run.stderr is not None
        next(line for line in run.stderr if "[ 1/20 done]" in line)
        run.send_signal(signal.SIGSTOP)  # so that the browser is there before the rest
        with dashboard(tmp_path, "out") as address, browser(address) as seen:
            page = seen.page
            page.goto(address)
            page.wait_for_selector("#hero .soft")
            until(lambda: "of 20" in page.locator("#state").inner_text())
            first = page.inner_text("#state")
            run.send_signal(signal.SIGCONT)
            until(lambda: page.inner_text("#state") != first)
            run.stderr.read()
            assert run.wait(60) == 0
            ended = time.monotonic()
            until(lambda: page.inner_text("#state") == "20 of 20 trials")
            assert time.monotonic() - ended < 5  # 2 s where nothing else runs; see benchmarks/dashboard.py
            last = page.locator("#replay .gtitle").text_content()
            page.locator("#replay .slider-rail-touch-rect").click(position={"x": 10, "y": 5})
            until(lambda: page.locator("#replay .gtitle").text_content() != last)
            assert page.locator("#pairs .point").count() > 2
            assert seen.complaints == []


@pytest.mark.usefixtures("needs_engine")
@pytest.mark.slow
def test_a_new_run_in_the_same_folder_is_followed(study: Path, tune: Tune) -> None:
    with dashboard(study, "out") as address, browser(address) as seen:
        page = seen.page
        page.goto(address)
        page.wait_for_selector("#hero .sentence")
        until(lambda: page.inner_text("#state") == "12 of 12 trials")
        assert tune("--service", "spec.yaml", "--budget", "3", "--output", "out").returncode == 0
        until(lambda: page.inner_text("#state") == "3 of 3 trials")


@pytest.mark.usefixtures("needs_engine")
@pytest.mark.slow
def test_it_fits_a_phone_and_a_keyboard(study: Path) -> None:
    with dashboard(study, "out") as address, browser(address, width=390) as seen:
        page = seen.page
        page.goto(address)
        page.wait_for_selector("#cost-p99 .main-svg")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator("#tab input").first.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_selector("#cards article")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert not page.is_visible("#now")
        trial = {"number": 7, "about": HOSTILE, "phase": "probe 120 req/s, p99 34 ms", "fraction": 0.4}
        live = {"at": time.time() + 30, "trials": [trial | {"points": [[1, 100, None], [2, 120, 34]]}]}
        (study / "out" / "live.json").write_text(json.dumps(live), encoding="utf-8")
        until(lambda: "Trial 7: probe 120 req/s, p99 34 ms (40% of its time)" in page.inner_text("#now-text"))
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        (study / "out" / "live.json").unlink()
        until(lambda: not page.is_visible("#now"))
        assert seen.complaints == []


DRAWN = {  # what is there when a tab is
    "Overview": "#surface .main-svg", "Trials": "#cards article", "Capacity plan": "#fleet .main-svg",
    "Compare": "#compared .main-svg", "Export": "#manifest:not(:empty)",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("needs_machine")
@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_clipped_and_axe_finds_nothing_serious(finished: Path, served: str, width: int, scheme: Any) -> None:
    with browser(served, width, scheme) as seen:
        page = seen.page
        page.goto((finished / "out" / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert inaccessible(seen) == []
        page.goto(served)
        for tab, drawn in DRAWN.items():
            page.get_by_label(tab, exact=True).check(force=True)
            page.wait_for_selector(drawn, state="attached")
            page.wait_for_timeout(300)  # until it is laid out
            assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
            assert inaccessible(seen) == [], tab
        assert seen.complaints == []


@pytest.mark.usefixtures("needs_machine")
def test_it_answers_to_its_own_name_alone_or_to_who_has_the_token(study: Path, tune: Tune) -> None:
    with dashboard(study, "out") as address:
        assert status(address) == 200
        assert status(address, Host="evil.example") == 403
    with dashboard(study, "out", "--token", "s3cret") as address:
        assert status(address) == 401
        assert status(address, Authorization="Bearer s3cret") == 200
        assert status(f"{address}?token=s3cret") == 303
        assert status(f"{address}?token=wrong") == 401
    refused = tune("dashboard", "out", "--host", "0.0.0.0")
    assert refused.returncode == 2
    assert "--token" in refused.stderr


def test_what_cannot_be_shown_is_said(tmp_path: Path, tune_in_process: Tune) -> None:
    done = tune_in_process("dashboard")
    assert done.returncode == 2
    assert "no study here" in done.stderr
    assert "holds no study.db" in tune_in_process("dashboard", "nowhere").stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        write_study(tmp_path)
        tune_in_process("--service", "spec.yaml", "--budget", "2", "--output", "out")
        found = tune_in_process("dashboard", "out", "--port", taken.getsockname()[1])
    assert found.returncode == 4
    assert "--port names another port" in found.stderr


@pytest.mark.usefixtures("needs_engine")
@pytest.mark.slow
def test_the_report_sorts_and_shows_hostile_text_as_text(study: Path) -> None:
    page_file = study / "out" / "report.html"
    with browser("file://") as seen:
        page = seen.page
        page.goto(page_file.as_uri())
        table = page.get_by_role("region", name="Trials").locator("table")
        table.locator("th", has_text="batch").first.click()
        at = [one.split()[0] for one in table.locator("thead th").all_inner_texts()].index("batch") + 1
        numbers = [int(one) for one in table.locator(f"tbody tr:first-child td:nth-child({at})").all_inner_texts()]
        assert numbers == sorted(numbers)
        table.locator("th", has_text="requests/s").first.click()
        at = [one.split()[0] for one in table.locator("thead th").all_inner_texts()].index("requests/s") + 1
        column = table.locator(f"tbody tr:first-child td:nth-child({at})").all_inner_texts()
        rates = [float(one.removeprefix("under ").replace(",", "")) for one in column if one[-1:].isdigit()]
        assert rates == sorted(rates)
        assert len(rates) > 1
        assert page.title() == "tune: shown"
        assert "<img src=x" in page.inner_text("body")
        assert "\\u202e" in page.inner_text("body")
        assert seen.complaints == []
    text = page_file.read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="http', text)
    assert "<img" not in text


@pytest.mark.usefixtures("needs_machine")
def test_optunas_own_dashboard_is_for_reading_alone(study: Path) -> None:
    pytest.importorskip("optuna_dashboard", reason="pip install '.[optuna-dashboard]'")
    with dashboards(study, "out", "--optuna", count=2) as [_, raw]:
        assert status(f"{raw}api/studies") == 200
        assert status(f"{raw}api/studies", Host="evil.example") == 403
        request = urllib.request.Request(f"{raw}api/studies/1", method="DELETE")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=10)


def test_where_somebody_has_the_next_port_optunas_dashboard_gets_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        [other] = _next_to("127.0.0.1", port - 1)
        with other:
            assert other.getsockname()[1] not in (0, port)
        with pytest.raises(UnfitEnvironmentError, match="--port names another port"):
            _bound("127.0.0.1", port)
