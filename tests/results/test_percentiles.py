"""Every display shows the percentiles that the SLO limits, by one name, with the rate that they were seen at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from results import (
    Choice,
    Estimate,
    Recommendation,
    ServiceRecord,
    StudyQuestion,
    StudySlo,
    StudySummary,
    TrialCounts,
    TrialEvidence,
    TrialRecord,
    write_report,
)
from results.dashboard import cards, parts, search_views
from results.percentiles import P99, Percentile, shown_percentiles
from results.report.listing import services_table
from results.report.notebook import study_html
from tuner.display.wording import trial_line

P95, P90, TTFT_P95 = Percentile("latency", 95), Percentile("latency", 90), Percentile("ttft", 95)
SEEN = "at 90.0 requests/s, of 1,234 requests"


def trial(number: int, **fields: Any) -> TrialRecord:
    known: dict[str, Any] = {
        "state": "complete", "configuration": {"cores": 1 + number}, "capacity_qps": Estimate.exactly(100.0 + number),
        "cost_per_hour": 0.36, "cost_per_million_requests": 1.0 - number / 10, "p95_ms": 31.5 + number,
        "p99_ms": Estimate(value=77.7, low=70.0, high=88.0), "latencies_at_qps": 90.0, "latencies_from_requests": 1234,
        "language": {"output_tokens": 10.0, "ttft": {"p50_ms": 11.0, "p95_ms": 12.5, "p99_ms": 13.5}},
    }  # fmt: skip
    return TrialRecord.model_validate({"number": number, **known, **fields})


def study(*limited: Percentile, records: tuple[TrialRecord, ...] = (trial(0), trial(1), trial(2))) -> StudySummary:
    best, other = (
        Choice(
            **{name: one.value_of(name) for name in Choice.model_fields if name in one.model_dump()},
            meets_slo=True, confirmed=True, trial=one.number,
        )
        for one in (records[-1], records[1])
    )  # fmt: skip
    found = Recommendation(
        service="s", trials=TrialCounts(complete=3), alternatives=(other,),
        **{name: getattr(best, name) for name in Choice.model_fields},
    )  # fmt: skip
    question = StudyQuestion(
        ("cores",), StudySlo(("p95 <= 60 ms",), limited=limited), "minimize cost_per_million_requests", "9"
    )
    return StudySummary(
        service="s", recommendation=found, records=records, question=question, current=records[0],
        values={one.number: one.cost_per_million_requests or 0.0 for one in records},
    )  # fmt: skip


def outputs(one: StudySummary, folder: Path) -> dict[str, str]:
    """Each display's text, by its name."""
    write_report(folder, one)
    return {
        "terminal": trial_line(one.records[2], "USD", one.question.slo.limited),
        "notebook": study_html(one),
        "report.md": (folder / "report.md").read_text(encoding="utf-8"),
        "report.html": (folder / "report.html").read_text(encoding="utf-8"),
        "dashboard's head": str(parts.hero(one)),
        "dashboard's comparison": str(parts.found(one)),
        "dashboard's grid": str(parts.columns(one)),
        "dashboard's cards": str(cards.trial_cards(one, ["complete"])),
        "dashboard's trial": str(parts.trial(one, one.records[2], TrialEvidence())),
        "dashboard's two studies": str(parts.compared(("a", one), ("b", one))),
        "dashboard's replay": str(search_views.replay(one)["frames"][-1]["layout"]),
    }


def test_all_show_the_percentile_that_the_slo_limits(tmp_path: Path) -> None:
    shown = outputs(study(P95), tmp_path)
    assert [name for name, text in shown.items() if "p95" not in text] == []
    for name in ("terminal", "report.md", "report.html", "dashboard's head", "dashboard's cards", "dashboard's trial"):
        assert SEEN in shown[name], name
        assert "33.5 ms" in shown[name], name
        # The p99, which nothing limits, stands in the report's picture of cost and p99 alone.
        assert name == "report.html" or "77.7" not in shown[name], name
    assert "p95 33.5 ms at 90.0 requests/s, of 1,234 requests" in shown["terminal"]
    assert (
        "| p95 at the highest rate that held | 31.5 ms at 90.0 requests/s | 33.5 ms at 90.0 requests/s | 6% more |"
        in (shown["report.md"])
    )
    assert "<th>p95, ms</th>" in shown["notebook"]
    assert parts.rows(study(P95), ["complete"])[2]["p95_ms"] == 33.5


def test_all_show_several_each_by_its_name(tmp_path: Path) -> None:
    shown = outputs(study(P95, TTFT_P95), tmp_path)
    assert [name for name, text in shown.items() if "p95" not in text or "first token p95" not in text] == []
    assert f"p95 33.5 ms, first token p95 12.5 ms {SEEN}" in shown["terminal"]
    assert f"p95 and first token p95 {SEEN}" in shown["report.md"]


def test_the_p99_is_shown_where_the_slo_limits_it_or_nothing_that_was_measured(tmp_path: Path) -> None:
    """A replayed table, say, has no other percentile, and what an earlier version measured has no p90."""
    for limited in ((), (P99,), (P90,)):
        shown = outputs(study(*limited), tmp_path)
        assert f"p99 77.7 ms (70.0 to 88.0) {SEEN}" in shown["terminal"]
        assert "<th>p99, ms</th>" in shown["notebook"]
        assert f"- **77.7 ms** p99 {SEEN} (95% interval 70.0 to 88.0)" in shown["report.md"]
        assert "p95" not in shown["dashboard's head"].replace("p95 <= 60 ms", "")
        assert parts.rows(study(*limited), ["complete"])[2]["p99_ms"] == 77.7


def test_what_a_trial_was_not_seen_at_is_not_said(tmp_path: Path) -> None:
    table = tuple(trial(n, p95_ms=None, latencies_at_qps=None, latencies_from_requests=None) for n in range(3))
    shown = outputs(study(P95, records=table), tmp_path)
    assert "p99 77.7 ms (70.0 to 88.0)" in shown["terminal"]
    assert "requests/s, of" not in shown["terminal"]


@pytest.mark.parametrize(
    ("limited", "headings"), [((P95, Percentile("latency", 99)), ["p50", "p95", "p99"]), ((), ["p50", "p99"])]
)
def test_services_show_what_any_of_them_limits(limited: tuple[Percentile, ...], headings: list[str]) -> None:
    services = [
        ServiceRecord(name="a", share=0.5, p50_ms=1.0, p95_ms=2.0, p99_ms=Estimate.exactly(3.0)),
        ServiceRecord(name="b", share=0.5, p50_ms=1.0, p95_ms=2.5, p99_ms=Estimate.exactly(3.5)),
    ]
    found = services_table(services, limited)
    assert found is not None
    assert [one for one in found.headings if one.startswith("p")] == headings


def test_a_percentile_is_shown_as_soon_as_one_trial_has_it() -> None:
    assert shown_percentiles((P95,), [trial(0, p95_ms=None), trial(1)]) == (P95,)
    assert Percentile("latency", 99.9).of(trial(0, p999_ms=5.0)) == Estimate.exactly(5.0)
    assert [Percentile("latency", 99.9).name, Percentile("itl", 90).name] == ["p99.9", "gaps p90"]
    assert [Percentile("latency", 99.9).column, TTFT_P95.column] == ["p999_ms", "ttft_p95_ms"]


def test_the_alternatives_and_what_is_launched_again_have_it_too(tmp_path: Path) -> None:
    one = study(P95)
    again = trial(2, p95_ms=35.5)
    write_report(tmp_path, replace(one, launches=replace(one.launches, confirmations={2: (again,)})))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "32.5 ms" in text.split("## Alternatives")[1].split("## Trials")[0]
    assert "35.5 ms" in text.split("## Measured again\n")[1]
