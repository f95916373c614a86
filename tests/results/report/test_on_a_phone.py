"""The report at the width of a phone, in a real browser: words and figures stay whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import browser
from tests.conftest import Tune

SPEC = """\
version: 1
service: {name: small}
slo: {p99: 50ms}
space: {parameters: {cpu_cores: [1, 2], batch: [1, 4, 8], engine: [a-category-with-a-rather-long-name, short]}}
runner: {type: replay, table: table.csv}
prices: {cpu_core_hour: 0.05}
current: {cpu_cores: 2, batch: 1, engine: short}
"""
_LINES = """selector => [...document.querySelectorAll(selector)].flatMap(cell => {
    const range = document.createRange();
    return [...cell.textContent.matchAll(/\\S+/g)].filter(word => {
        range.setStart(cell.firstChild, word.index);
        range.setEnd(cell.firstChild, word.index + word[0].length);
        return range.getClientRects().length > 1;
    }).map(String);
})"""
_CLIPPED = """() => [...document.querySelectorAll('svg text')].filter(one => {
    const own = one.getBoundingClientRect(), picture = one.ownerSVGElement.getBoundingClientRect();
    const beyond = own.left < picture.left || own.right > picture.right;
    const hidden = getComputedStyle(one.ownerSVGElement).overflow !== 'visible';
    return own.left < 0 || own.right > innerWidth || (beyond && hidden);
}).map(one => one.textContent)"""


@pytest.mark.usefixtures("needs_engine")
def test_no_word_of_the_comparison_is_broken_and_no_figure_of_a_picture_is_cut_off(
    tmp_path: Path, tune_in_process: Tune
) -> None:
    rows = [f"{cores},{batch},{engine},{100 * cores + 10 * batch * cores},{20 + batch}\n"
            for cores in (1, 2) for batch in (1, 4, 8)
            for engine in ("a-category-with-a-rather-long-name", "short")]  # fmt: skip
    (tmp_path / "table.csv").write_text(f"cpu_cores,batch,engine,capacity_qps,p99_ms\n{''.join(rows)}", "utf-8")
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    assert tune_in_process("--service", "spec.yaml", "--budget", "8", "--output", "out").returncode == 0
    with browser("file:", width=390) as seen:
        seen.page.goto((tmp_path / "out" / "report.html").as_uri())
        assert seen.page.evaluate("document.documentElement.scrollWidth") == 390
        comparison = 'div[aria-label="Comparison with the current configuration"]'
        found = seen.page.locator(comparison)
        assert found.count() == 1
        assert seen.page.evaluate(_LINES, f"{comparison} :is(th, td):not(:empty)") == []
        assert seen.page.evaluate(_CLIPPED) == []
