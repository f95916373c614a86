"""Outputs: complete, true to the records, and harmless whatever text a server or a spec puts into them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from results import (
    Choice,
    Estimate,
    Latencies,
    Recommendation,
    ResultsError,
    StudyQuestion,
    StudySlo,
    StudySummary,
    Timing,
    TrialCounts,
    TrialRecord,
    WarmupSample,
    read_recommendation,
    write_recommendation,
    write_report,
    write_trials,
)
from results.text import between, money_alike, money_between

HOSTILE = '=HYPERLINK("http://x") <script>alert(1)</script> \x1b[31m|red|` \n# title'


def complete(number: int, capacity: float, **configuration: int | str) -> TrialRecord:
    return TrialRecord(
        number=number, state="complete", configuration=dict(configuration),
        latency=Latencies(p99_ms=Estimate(value=20, low=18, high=24), error_rate=0.0), timing=Timing(load_s=10.0),
        capacity_qps=Estimate(value=capacity, low=capacity * 0.95, high=capacity * 1.05), cost_per_hour=0.08,
        cost_per_million_requests=0.08 / capacity / 3600 * 1e6, bottleneck="cpu",
    )  # fmt: skip


RECORDS = (
    complete(0, 100.0, cpu_cores=1, engine="eager"),
    complete(1, 180.0, cpu_cores=2, engine=HOSTILE),
    TrialRecord(
        number=2, state="failed", reason=HOSTILE, log_tail=HOSTILE, configuration={"cpu_cores": 4, "engine": "x"}
    ),
)


def summary(records: tuple[TrialRecord, ...] = RECORDS) -> StudySummary:
    best = records[1] if records else None
    found = Recommendation(
        service="example", configuration=best.configuration if best else None,
        capacity_qps=best.capacity_qps if best else None, p99_ms=best.latency.p99_ms if best else None, error_rate=0.0,
        cost_per_hour=0.08, cost_per_million_requests=0.12, meets_slo=best is not None, confirmed=best is not None,
        trial=1 if best else None, trials=TrialCounts(complete=2, failed=1), reasons=(HOSTILE,),
        alternatives=(_choice(records[0]),) if records else (),
    )  # fmt: skip
    return StudySummary(
        service="example", recommendation=found, records=records,
        question=StudyQuestion(
            ("cpu_cores", "engine"), StudySlo(("p99 <= 50 ms",)), "minimize cost_per_million_requests", space_size="12"
        ),
        provenance={"host": HOSTILE},
    )  # fmt: skip


def _choice(record: TrialRecord) -> Choice:
    assert record.capacity_qps is not None
    return Choice(
        configuration=record.configuration, capacity_qps=record.capacity_qps, p99_ms=record.latency.p99_ms,
        error_rate=0.0, cost_per_hour=record.cost_per_hour, cost_per_million_requests=record.cost_per_million_requests,
        meets_slo=True, confirmed=False, trial=record.number,
    )  # fmt: skip


def test_the_table_has_the_contracts_columns_and_missing_figures_stay_missing(tmp_path: Path) -> None:
    write_trials(tmp_path, RECORDS, ("cpu_cores", "engine"))
    table = pd.read_csv(tmp_path / "trials.csv")
    wanted = {
        "number", "state", "reason", "cpu_cores", "engine", "capacity_qps", "p50_ms", "p95_ms", "p99_ms", "error_rate",
        "cost_per_hour", "cost_per_million_requests", "bottleneck", "cold_start_s", "launch_s", "warmup_s", "load_s",
        "teardown_s",
    }  # fmt: skip
    assert wanted <= set(table.columns)
    assert table["capacity_qps"].isna().to_list() == [False, False, True]
    assert list(pd.read_parquet(tmp_path / "trials.parquet").columns) == list(table.columns)


def test_no_text_in_the_csv_is_a_formula_and_parquet_keeps_it_raw(tmp_path: Path) -> None:
    write_trials(tmp_path, RECORDS, ("cpu_cores", "engine"))
    assert str(pd.read_csv(tmp_path / "trials.csv").loc[2, "reason"]).startswith("'=HYPERLINK")
    assert pd.read_parquet(tmp_path / "trials.parquet").loc[2, "reason"] == HOSTILE


def test_choices_of_several_types_share_a_column(tmp_path: Path) -> None:
    mixed = (complete(0, 10.0, threads=1), complete(1, 12.0, threads="auto"))
    write_trials(tmp_path, mixed, ("threads",))
    assert list(pd.read_parquet(tmp_path / "trials.parquet")["threads"]) == ["1", "auto"]


def test_an_empty_study_has_empty_tables_and_a_report(tmp_path: Path) -> None:
    write_trials(tmp_path, (), ("cpu_cores",))
    assert len(pd.read_csv(tmp_path / "trials.csv")) == 0
    write_report(tmp_path, summary(()))
    assert "No configuration met the SLO" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (TrialCounts(), "Nothing has been measured yet"),
        (TrialCounts(failed=2), "Nothing could be measured: every trial failed"),
        (TrialCounts(failed=2, infeasible=1), "No configuration met the SLO"),
    ],
)
def test_why_nothing_is_recommended_is_said_as_it_is(counts: TrialCounts, said: str) -> None:
    assert counts.why_nothing == said


def test_why_there_is_nothing_to_export_is_said_as_it_is() -> None:
    assert "has been measured yet" in TrialCounts().nothing_to("export", "x")
    assert "went wrong" not in TrialCounts().nothing_to("export", "x")
    assert "could be measured" in TrialCounts(failed=2).nothing_to("export", "x")


def test_the_report_shows_hostile_text_as_text(tmp_path: Path) -> None:
    write_report(tmp_path, summary())
    html, markdown = ((tmp_path / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    assert html.count("<script") == 1
    assert "<script>alert" not in html
    assert "&lt;script&gt;" in html
    assert "\x1b" not in html + markdown
    assert "<script" not in markdown.replace("\\<script", "")
    assert not any(line.startswith("# title") for line in markdown.splitlines())


def test_the_html_report_needs_nothing_but_itself(tmp_path: Path) -> None:
    write_report(tmp_path, summary())
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "src=" not in html
    assert "<link" not in html
    assert "None" not in html
    assert "nan" not in html
    assert html.count('class="point ') == 4


def test_the_recommendation_file_has_the_contracts_keys_and_is_read_back(tmp_path: Path) -> None:
    found = summary().recommendation
    write_recommendation(tmp_path, found)
    content = json.loads((tmp_path / "recommendation.json").read_text(encoding="utf-8"))
    wanted = {
        "schema", "service", "configuration", "capacity_qps", "p99_ms", "error_rate", "cost_per_hour",
        "cost_per_million_requests", "meets_slo", "confirmed", "trials", "alternatives", "reasons",
    }  # fmt: skip
    assert wanted <= content.keys()
    assert content["schema"] == 1
    assert content["capacity_qps"].keys() == {"value", "low", "high"}
    assert content["trials"].keys() == {"complete", "pruned", "infeasible", "failed"}
    assert read_recommendation(tmp_path / "recommendation.json") == found


@pytest.mark.parametrize("text", [None, "", "{}", '{"schema": 2}'])
def test_what_is_no_recommendation_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "recommendation.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ResultsError, match="recommendation"):
        read_recommendation(path)


def test_a_server_that_never_settled_is_drawn(tmp_path: Path) -> None:
    samples = tuple(WarmupSample(at_s=0.25 * n, p50_ms=5.0 * n, qps=200 / (n + 1)) for n in range(8))
    unsettled = RECORDS[1].model_copy(update={"unsettled": samples})
    write_report(tmp_path, summary((RECORDS[0], unsettled, RECORDS[2])))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<polyline") == 2
    assert "35.0 ms" in page
    assert "## Never settled" in (tmp_path / "report.md").read_text(encoding="utf-8")
    write_report(tmp_path, summary())
    assert "Never settled" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_each_trial_says_at_which_rate_its_p99_was_seen_and_of_how_many_requests(tmp_path: Path) -> None:
    seen = RECORDS[0].model_copy(
        update={"latency": RECORDS[0].latency.model_copy(
            update={"latencies_at_qps": 96.0, "latencies_from_requests": 1240}
        )}
    )  # fmt: skip
    write_report(tmp_path, summary((seen, RECORDS[1])))
    for name in ("report.html", "report.md"):
        assert "p99 at 96.0 requests/s, of 1,240 requests" in (tmp_path / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ((90.0, 92.0), "20.0 ms at 90.0 requests/s | 18.0 ms at 92.0 requests/s | 10% less"),
        ((90.0, 170.0), "20.0 ms at 90.0 requests/s | 18.0 ms at 170 requests/s | at other rates"),
        ((None, None), "20.0 ms | 18.0 ms | 10% less"),
    ],
)
def test_latencies_at_other_rates_are_not_compared(tmp_path: Path, rates: tuple[float | None, ...], said: str) -> None:
    p99s = (Estimate.exactly(20.0), Estimate.exactly(18.0))
    today = RECORDS[0].model_copy(update={"latency": Latencies(p99_ms=p99s[0], latencies_at_qps=rates[0])})
    found = summary((today, RECORDS[1]))
    best = found.recommendation.model_copy(update={"p99_ms": p99s[1], "latencies_at_qps": rates[1]})
    write_report(tmp_path, replace(found, recommendation=best, current=today))
    assert f"| p99 at the highest rate that held | {said} |" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_share_saved_is_shown_from_its_lower_to_its_upper_end() -> None:
    shown = [between("cost_per_hour", Estimate(value=0.1, low=low, high=0.25)) for low in (0.031, -0.04)]
    assert shown == ["from 3.1% to 25% cheaper", "from 4.0% dearer to 25% cheaper"]
    assert between("capacity_qps", Estimate(value=-0.1, low=-0.2, high=-0.05)) == "from 5.0% to 20% less"


def test_an_interval_whose_ends_read_the_same_is_no_interval() -> None:
    assert money_between(58.401, 58.404, "USD") is None
    assert money_between(51.2, 64.9, "USD") == "$51.20 to $64.90"
    assert money_between(51.2, 64.9, "EUR") == "51.20 EUR to 64.90 EUR"
    assert money_between(859.58, 1387, "USD") == "$860 to $1,387"


@pytest.mark.parametrize(
    ("amounts", "shown"),
    [
        ([859.58, 1387], ["$860", "$1,387"]),
        ([859.58, 999.5], ["$859.58", "$999.50"]),
        ([4.32, 1387, None], ["$4.32", "$1,387.00", "\N{EN DASH}"]),
        ([0.25, 12345.6, 0], ["$0.250", "$12,345.60", "$0"]),
        ([-859.58, 1387.4], ["-$860", "$1,387"]),
        ([None, math.inf], ["\N{EN DASH}", "\N{EN DASH}"]),
    ],
)
def test_amounts_that_are_compared_are_shown_alike(amounts: list[float | None], shown: list[str]) -> None:
    assert [*map(money_alike(amounts, "USD"), amounts)] == shown
