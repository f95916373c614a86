"""The report of a study, as HTML and Markdown, with its charts, tables and findings.

It takes a finished `StudySummary` and writes files; it measures and decides nothing. Its templates, charts and
sentences serve the capacity plan and the dashboard too.
"""

from results.report.report import write_report

__all__ = ["write_report"]
