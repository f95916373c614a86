"""Who may see a dashboard, and what it answers to requests that no page of ours makes."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from results import StudySummary, TrialEvidence
from results.dashboard import make_app
from results.dashboard.app import FirstLook
from tests.results.planning.test_planning import SIZES, study
from tuner.errors import UsageError

TOKEN = "s3cret-token"


class OneStudy:
    """A source with one study."""

    def names(self) -> tuple[str, ...]:
        return ("planned",)

    def version(self, name: str) -> str:
        return name

    def summary(self, name: str) -> StudySummary:
        return study(*SIZES)

    def evidence(self, name: str, number: int) -> TrialEvidence:
        return TrialEvidence()

    def formats(self, name: str) -> tuple[str, ...]:
        return ("kubernetes",)

    def export(self, name: str, format_name: str, qps: float | None) -> Mapping[str, str]:
        return {"x.yaml": "a: 1\n"}

    def running(self, name: str) -> list[dict[str, Any]]:
        return []

    def raw(self, name: str) -> str | None:
        return None


def client(token: str | None = TOKEN) -> Any:
    return make_app(OneStudy(), token).test_client()


def test_the_cookie_is_a_session_and_not_the_token() -> None:
    browser = client()
    assert browser.get("/").status_code == 401
    opened = browser.get(f"/?token={TOKEN}")
    assert opened.status_code == 303
    assert TOKEN not in opened.headers["Set-Cookie"]
    assert "HttpOnly" in opened.headers["Set-Cookie"]
    assert browser.get("/").status_code == 200
    other = client()  # another dashboard knows no such session
    other.set_cookie("tune-session", opened.headers["Set-Cookie"].partition("=")[2].partition(";")[0])
    assert other.get("/").status_code == 401
    assert client().get("/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_guessing_a_token_is_slow() -> None:
    browser = client()
    answers = [browser.get(f"/?token=wrong{number}").status_code for number in range(30)]
    assert answers[:20] == [401] * 20
    assert set(answers[20:]) == {429}
    assert browser.get(f"/?token={TOKEN}").status_code == 429


def test_who_is_in_stays_in_while_another_guesses() -> None:
    app = make_app(OneStudy(), TOKEN)
    inside, guesser = app.test_client(), app.test_client()
    inside.get(f"/?token={TOKEN}")
    for number in range(30):
        guesser.get("/", headers={"Authorization": f"Bearer wrong{number}"})
    assert inside.get("/").status_code == 200


@pytest.mark.parametrize("token", ["", "   ", "short"])
def test_a_blank_token_is_refused(token: str) -> None:
    from tuner.commands.dashboard import DashboardOptions, dashboard

    with pytest.raises(UsageError, match="the token is blank"):
        dashboard(DashboardOptions(token=token))


def asked(output: str, inputs: list[Any], state: list[Any] | None = None) -> dict[str, Any]:
    outputs = [{"id": "plan", "property": "children"}, {"id": "fleet", "property": "figure"}]
    return {"output": output, "outputs": outputs, "inputs": inputs, "state": state or [], "changedPropIds": []}


PLAN = "..plan.children...fleet.figure.."


def plan(**changed: Any) -> dict[str, Any]:
    given = {"qps": 10, "pattern": "steady", "misses": 1, "spare": 1, "spot-share": 0, "spot-price": 30} | changed
    inputs = [{"id": key, "property": "value", "value": value} for key, value in given.items()]
    inputs.append({"id": "version", "property": "data", "value": "x"})
    return asked(PLAN, inputs, [{"id": "study", "property": "value", "value": "planned"}])


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"x"', b"{}", json.dumps({"output": "nothing.children"}).encode(),
        json.dumps(asked("nothing.children", [])).encode(), json.dumps(asked(PLAN, [])).encode(),
        json.dumps(asked(PLAN, [{"id": "qps"}])).encode(), json.dumps(plan(qps="many")).encode(),
        json.dumps(plan(qps=[1])).encode(), json.dumps(plan(qps=1e300)).encode(), json.dumps(plan(qps=-1)).encode(),
        json.dumps(plan(pattern={"a": 1})).encode(), json.dumps(plan(spare=1e9)).encode(), b"[" * 10_000,
        json.dumps(plan(misses=float("nan"))).encode(), json.dumps(plan(**{"spot-price": "x"})).encode(),
    ],
)  # fmt: skip
def test_a_callback_that_no_page_makes_is_a_bad_request(body: bytes) -> None:
    answer = client(None).post("/_dash-update-component", data=body, content_type="application/json",
                               base_url="http://127.0.0.1")  # fmt: skip
    assert answer.status_code in (400, 415), answer.data
    assert b"Traceback" not in answer.data


def test_the_pages_own_callback_is_answered() -> None:
    answer = client(None).post("/_dash-update-component", json=plan(qps=1e9), base_url="http://127.0.0.1")
    assert answer.status_code == 200


class Allowing(OneStudy):
    """One whose SLO lets that share of requests be late."""

    def __init__(self, late: float) -> None:
        self._late = late

    def summary(self, name: str) -> StudySummary:
        found = super().summary(name)
        question = found.question
        return replace(found, question=replace(question, slo=replace(question.slo, late=self._late)))


@pytest.mark.parametrize(
    ("late", "percent", "step", "most"),
    [(1 - 0.99, 1, 0.1, 5), (1 - 0.95, 5, 0.1, 10), (1 - 0.9995, 0.05, 0.05, 5), (1 - 0.9, 10, 0.1, 20)],
)
def test_the_plan_starts_with_as_many_late_requests_as_the_slo_allows(
    late: float, percent: float, step: float, most: float
) -> None:
    outputs = [("qps", "max"), ("qps", "step"), ("qps", "value"), ("misses", "min"), ("misses", "step"),
               ("misses", "max"), ("misses", "value")]  # fmt: skip
    body = {
        "output": f"..{'...'.join(f'{name}.{value}' for name, value in outputs)}..",
        "outputs": [{"id": name, "property": value} for name, value in outputs],
        "inputs": [{"id": "study", "property": "value", "value": "planned"}, {"id": "tab", "property": "value",
                   "value": "plan"}], "changedPropIds": ["tab.value"],
    }  # fmt: skip
    browser = make_app(Allowing(late), None).test_client()
    answer = browser.post("/_dash-update-component", json=body, base_url="http://127.0.0.1")
    assert answer.get_json()["response"]["misses"] == {"min": step, "step": step, "max": most, "value": percent}


def test_a_request_that_is_too_large_is_refused() -> None:
    answer = client(None).post("/_dash-update-component", data=b"x" * (2 << 20), content_type="application/json",
                               base_url="http://127.0.0.1")  # fmt: skip
    assert answer.status_code in (400, 413)


ODD: list[Any] = [None, -1, float("nan"), 10**400, {"a": 1}, [{"trial": 1e99}]]


def test_no_odd_value_in_any_callback_is_an_error_of_ours() -> None:
    browser = client(None)
    found = json.loads(browser.get("/_dash-dependencies", base_url="http://127.0.0.1").data)
    for one in found:
        parts = [*one["inputs"], *one["state"]]
        ends = [text.rsplit(".", 1) for text in one["output"].strip(".").split("...")]
        outputs = [{"id": name, "property": value.split("@")[0]} for name, value in ends]
        for odd, place in product(ODD, range(len(parts))):
            usual = {"study": "planned", "version": "x", "tab": "Overview", "pattern": "steady"}
            given = [part | {"value": usual.get(part["id"], 1)} for part in parts]
            given[place] = parts[place] | {"value": odd}
            count = len(one["inputs"])
            body = {
                "output": one["output"], "outputs": outputs if one["output"].startswith("..") else outputs[0],
                "inputs": given[:count], "state": given[count:],
                "changedPropIds": [f"{parts[0]['id']}.{parts[0]['property']}"],
            }  # fmt: skip
            answer = browser.post("/_dash-update-component", data=json.dumps(body), content_type="application/json",
                                  base_url="http://127.0.0.1")  # fmt: skip
            assert answer.status_code in (200, 204, 400), (one["output"], parts[place], odd)
            assert b"Traceback" not in answer.data


class LongStudy(OneStudy):
    """A study that nobody has summed up before `ready` is set."""

    def __init__(self) -> None:
        self.ready, self.asked = threading.Event(), 0

    def summary(self, name: str) -> StudySummary:
        self.asked += 1
        self.ready.wait(20)
        return study(*SIZES)


def test_a_study_that_takes_long_to_read_does_not_hold_up_the_page() -> None:
    source = LongStudy()
    look = FirstLook(source, patience_s=0.05)
    assert look.words() == (False, ["planned", "Reading the study; what it found comes in a moment."])
    assert look.words()[0] is False
    assert source.asked == 1  # it goes on being read, once, whoever asks
    source.ready.set()
    known, words = FirstLook(source, patience_s=20).words()
    assert known
    assert words[0] == "planned"
    assert make_app(source, None).test_client().get("/").text.count('class="first known"') == 1
