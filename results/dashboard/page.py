"""What is on the page: tabs with pictures, tables and controls. Callbacks in `live` fill them in."""

from __future__ import annotations

from typing import Any

from dash import dcc, html
from dash_ag_grid import AgGrid

from results.dashboard.running import running_now
from results.planning import PATTERNS
from results.trial_parts import State

GRAPH_SIZE = {"height": "340px"}
# Radio buttons that look like tabs: unlike Dash's tabs they can be reached and changed by keyboard.
_TABS = {
    "overview": "Overview", "trials": "Trials", "plan": "Capacity plan", "compare": "Compare", "export": "Export"
}  # fmt: skip
STATES: tuple[State, ...] = ("complete", "pruned", "infeasible", "failed")
_GRAPH = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}


def page(names: tuple[str, ...]) -> html.Div:
    """The whole page without a study in it; the callbacks of `live` fill it."""
    return html.Div(
        [
            dcc.Interval(id="clock", interval=1000),
            dcc.Store(id="version"),
            html.Header(
                [
                    html.H1("tune"),
                    dcc.Dropdown(
                        id="study", options=list(names), value=names[0] if names else None, clearable=False,
                        searchable=len(names) > 8, className="study",
                    ),
                    html.Span(id="state", role="status", className="state"),
                ]
            ),
            html.Main(
                [
                    html.Section(id="hero", className="hero"),
                    running_now(),
                    dcc.RadioItems(id="tab", options=_TABS, value="overview", inline=True, className="tabs"),
                    html.Section(id="panel"),
                    html.Footer(id="origin", className="soft"),
                ]
            ),
        ]
    )  # fmt: skip


def panel(tab: str, names: tuple[str, ...]) -> list[Any]:
    """What is under a tab."""
    if tab == "compare":
        return _compare(names)
    return {"overview": _overview, "trials": _trials, "plan": _plan, "export": _export}[tab]()


def graph(identity: str, title: str, *, height: str = GRAPH_SIZE["height"]) -> html.Figure:
    """A picture under its title."""
    return html.Figure([html.Figcaption(title), dcc.Graph(id=identity, config=_GRAPH, style={"height": height})])


def _overview() -> list[Any]:
    return [
        html.Div(id="findings"),
        html.Div(
            [
                graph("cost-p99", "Cost and p99: lower left is better"),
                graph("latency", "Latency of the recommendation over the arrival rate"),
                graph("cost-capacity", "Cost and capacity: lower right is better"),
                graph("search", "How the search went"),
                graph("importance", "What matters"),
                graph("surface", "The two that matter most, as predicted: the stronger, the better"),
            ],
            className="pictures",
        ),
        graph("parallel", "The best trials over their parameters: the stronger, the better"),
        graph("pairs", "Parameters in pairs, the best that was measured: the stronger, the better", height="520px"),
        graph("replay", "The search, trial by trial: cost and p99", height="500px"),
    ]


def _trials() -> list[Any]:
    return [
        html.Div(
            [
                html.Label(
                    ["States", dcc.Checklist(id="states", options=list(STATES), value=list(STATES), inline=True)]
                ),
                html.P(
                    "Headings sort and filter; a row shows its probes, log and use of resources.",
                    className="soft wide-only",
                ),
                html.Button("CSV", id="trials-csv", className="button"),
                html.Button("JSON", id="trials-json", className="button"),
                dcc.Download(id="trials-file"),
            ],
            className="controls",
        ),
        AgGrid(
            id="grid", className="ag-theme-quartz grid",
            defaultColDef={
                "sortable": True, "filter": True, "resizable": True, "minWidth": 90, "wrapHeaderText": True,
                "autoHeaderHeight": True,
            },
            dashGridOptions={
                "rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
                "suppressFieldDotNotation": True, "fullWidthCellRenderer": "Below",
                # A reason has the values of its trial, so that it stays under it however the rows are sorted.
                "isFullWidthRow": {"function": "params.rowNode.data.below"},
                "getRowHeight": {"function": "params.data.below ? 26 : 38"},
            },
            getRowId="params.data.id",
        ),
        html.Div(id="cards", className="trial-cards"),
        html.Div(id="trial", className="trial"),
    ]  # fmt: skip


def _plan() -> list[Any]:
    return [
        html.Div(
            [
                _control("Traffic at the peak, requests/s", dcc.Slider(id="qps", min=1, max=100, value=50, marks=None)),
                _control(
                    "Over the day", dcc.Dropdown(id="pattern", options=list(PATTERNS), value="daily", clearable=False)
                ),
                _control(
                    "SLO margin: how many requests may be late, %",
                    dcc.Slider(id="misses", max=5, marks=None),
                ),
                _control("Spare replicas", dcc.Slider(id="spare", min=0, max=5, step=1, value=1, marks=None)),
                _control("Share of spot, %", dcc.Slider(id="spot-share", min=0, max=100, step=5, value=0, marks=None)),
                _control(
                    "Price of spot, % of on demand",
                    dcc.Slider(id="spot-price", min=10, max=100, step=5, value=40, marks=None),
                ),
            ],
            className="controls sliders",
        ),
        html.Div(id="plan", role="status"),
        graph("fleet", "What comes over a day, and what the replicas carry"),
    ]


def _compare(names: tuple[str, ...]) -> list[Any]:
    other = names[1] if len(names) > 1 else None
    return [
        html.Div([_control("With", dcc.Dropdown(id="other", options=list(names), value=other))], className="controls"),
        html.Div(id="comparison"),
        graph("compared", "Cost and capacity of both"),
    ]


def _export() -> list[Any]:
    return [
        html.Div(
            [
                _control("As", dcc.Dropdown(id="format", clearable=False)),
                _control("For requests/s", dcc.Input(id="export-qps", type="number", min=0, debounce=True)),
                html.Button("Download", id="download", className="button"),
                dcc.Download(id="file"),
            ],
            className="controls",
        ),
        html.Pre(id="manifest", tabIndex="0"),
    ]


def _control(label: str, component: Any) -> html.Div:
    return html.Div([html.Label(label, htmlFor=component.id), component], className="control")
