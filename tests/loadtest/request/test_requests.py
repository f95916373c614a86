"""What is sent, and what counts as a good answer: a transport against a real server."""

from __future__ import annotations

import email
import json
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from loadtest import (
    AnswerCheck,
    Auth,
    FormField,
    LatencyLimit,
    LoadGenerator,
    LoadPlan,
    LoadTestError,
    OtherRequest,
    PlanError,
    RequestPlan,
    Slo,
    checker,
)
from loadtest.bundle import pack, unpack
from loadtest.generator.wire.transport import Transport
from loadtest.request.bodies import read_bodies
from loadtest.request.reply import Reply
from loadtest.request.request_check import check_request
from tests.loadtest.api_server import BETWEEN_S, FIRST_S, TOKENS, Api, Request, serving


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving() as one:
        yield one


def plan(url: str, **request: Any) -> LoadPlan:
    slo = Slo(latency=(LatencyLimit(percentile=99, limit_ms=500),))
    return LoadPlan(url=url, request=RequestPlan(**request), slo=slo, request_timeout_s=2.0)


def send(api: Api, times: int = 1, **request: Any) -> list[Reply]:
    api.asked.clear()
    asked = plan(api.url, **request)
    with closing(Transport(asked, read_bodies(asked.request))) as transport:
        return [transport.send() for _ in range(times)]


def sent(api: Api, times: int = 1, **request: Any) -> list[Request]:
    assert [reply.failure for reply in send(api, times, **request)] == [None] * times
    return api.asked


def test_other_paths_have_their_shares_of_the_requests(api: Api, tmp_path: Path) -> None:
    lines = tmp_path / "b.jsonl"
    lines.write_text('{"b": 1}\n{"b": 2}\n', encoding="utf-8")
    others = (
        OtherRequest(path="/b", share=0.3, dataset=str(lines)), OtherRequest(path="/c", share=0.1, body='{"c": 1}')
    )  # fmt: skip
    asked = sent(api, 400, path="/a", body='{"a": 1}', others=others)
    seen = Counter(one.path for one in asked)
    assert seen["/a"] == pytest.approx(240, abs=40)
    assert seen["/b"] == pytest.approx(120, abs=40)
    assert seen["/c"] == pytest.approx(40, abs=25)
    assert {(one.path, one.body.decode()) for one in asked} == {
        ("/a", '{"a": 1}'), ("/b", '{"b": 1}'), ("/b", '{"b": 2}'), ("/c", '{"c": 1}')
    }  # fmt: skip
    again = sent(api, 50, path="/a", body='{"a": 1}', others=others)
    assert [one.path for one in again] == [one.path for one in asked[:50]], "the same seed, the same order"


def test_a_failure_says_at_which_of_several_paths(api: Api) -> None:
    others = (OtherRequest(path="/404", share=0.5, body="{}"),)
    assert {one.failure for one in send(api, 40, path="/500", body="{}", others=others)} == {
        "http 500 at /500", "http 404 at /404",
    }  # fmt: skip


def test_other_requests_have_checks_of_their_own_or_the_requests(api: Api) -> None:
    def failures(check: AnswerCheck | None) -> set[str | None]:
        others = (OtherRequest(path="/404", share=0.5, body="{}", check=check),)
        own = AnswerCheck(json_paths={"$.missing": 1})
        return {one.failure for one in send(api, 40, path="/a", body="{}", check=own, others=others)}

    fails = "the answer fails the check of $.missing at /a"
    assert failures(None) == {fails, "http 404 at /404"}
    assert failures(AnswerCheck(status=(404,))) == {fails, None}


def test_a_bundle_takes_the_files_of_other_requests_along(tmp_path: Path) -> None:
    lines = tmp_path / "b.jsonl"
    lines.write_text('{"b": 1}\n', encoding="utf-8")
    whole = plan("http://127.0.0.1:1", body="{}", others=(OtherRequest(path="/b", share=0.3, dataset=str(lines)),))
    pieces, there = tmp_path / "pieces", tmp_path / "there"
    pieces.mkdir()
    there.mkdir()
    (pieces / "0").write_bytes(pack(whole))
    lines.unlink()
    [other] = LoadPlan.model_validate_json(unpack(pieces, there)).request.others
    assert Path(other.dataset or "").read_text(encoding="utf-8") == '{"b": 1}\n'


def test_other_requests_have_bodies_of_their_own_beside_a_file(api: Api, tmp_path: Path) -> None:
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"\xff\xd8")
    asked = sent(api, 40, path="/a", file=str(picture), others=(OtherRequest(path="/b", share=0.5, body='{"b": 1}'),))
    seen = {(one.path, one.body, one.headers["content-type"]) for one in asked}
    assert seen == {("/a", b"\xff\xd8", "image/jpeg"), ("/b", b'{"b": 1}', "application/json")}


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ((OtherRequest(path="b", share=0.3, body=""),), "'b' has to start with /"),
        ((OtherRequest(path="/b", share=0.6, body=""), OtherRequest(path="/c", share=0.5, body="")), "leave nothing"),
    ],
)
def test_other_requests_that_cannot_be_are_said(others: tuple[OtherRequest, ...], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        check_request(plan("http://127.0.0.1:1", others=others))


def test_a_body_and_headers_arrive_as_they_are(api: Api) -> None:
    (one,) = sent(api, body='{"x": "ü"}', headers={"X-Model": "small"})
    assert json.loads(one.body) == {"x": "ü"}
    assert one.headers["x-model"] == "small"
    assert one.headers["content-length"] == str(len(one.body))


def test_a_get_has_no_body(api: Api) -> None:
    (one,) = sent(api, method="GET")
    assert one.method == "GET"
    assert one.body == b""
    assert "content-length" not in one.headers


def test_a_file_is_sent_as_it_is_with_its_type(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(bytes(range(256)))
    (one,) = sent(api, file=str(path))
    assert one.body == path.read_bytes()
    assert one.headers["content-type"] == "image/png"


def test_a_folder_is_sent_file_by_file(api: Api, tmp_path: Path) -> None:
    for name in ("b.bin", "a.bin", ".hidden"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "folder").mkdir()
    asked = sent(api, 4, dataset=str(tmp_path), order="sequential")
    assert [one.body for one in asked] == [b"a.bin", b"b.bin", b"a.bin", b"b.bin"]


def test_lines_are_drawn_at_random_unless_an_order_is_asked_for(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join(f'{{"n": {n}}}' for n in range(5)) + "\n\n", encoding="utf-8")
    in_order = [json.loads(one.body)["n"] for one in sent(api, 10, dataset=str(path), order="sequential")]
    drawn = [json.loads(one.body)["n"] for one in sent(api, 40, dataset=str(path))]
    assert in_order == [0, 1, 2, 3, 4] * 2
    assert set(drawn) == set(range(5))
    assert drawn != [0, 1, 2, 3, 4] * 8


def parts(request: Request) -> dict[str, Message]:
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + request.body)
    assert message.is_multipart()
    found = [part for part in message.get_payload() if isinstance(part, Message)]
    return {str(part.get_param("name", header="content-disposition")): part for part in found}


def test_a_form_has_texts_and_files_of_which_each_request_takes_one(api: Api, tmp_path: Path) -> None:
    for name in ("one.wav", "two.wav"):
        (tmp_path / name).write_bytes(b"\0\xff" + name.encode())
    fields = {"language": FormField(text="en"), "audio": FormField(file=str(tmp_path), type="audio/x-test")}
    first, second = (parts(one) for one in sent(api, 2, multipart=fields, order="sequential"))
    assert first["language"].get_payload(decode=True) == b"en"
    assert first["audio"].get_payload(decode=True) == b"\0\xffone.wav"
    assert first["audio"].get_content_type() == "audio/x-test"
    assert second["audio"].get_filename() == "two.wav"


def test_hidden_files_of_a_folder_are_no_parts_of_a_form(api: Api, tmp_path: Path) -> None:
    for name in ("one.wav", ".DS_Store", ".gitkeep"):
        (tmp_path / name).write_bytes(name.encode())
    asked = sent(api, 6, multipart={"file": FormField(file=str(tmp_path))})
    assert {parts(one)["file"].get_payload(decode=True) for one in asked} == {b"one.wav"}
    (tmp_path / "one.wav").unlink()
    with pytest.raises(PlanError, match="has no files; each file is one part"):
        read_bodies(RequestPlan(multipart={"file": FormField(file=str(tmp_path))}))


@pytest.mark.parametrize("source", ["dataset", "multipart"])
def test_a_folder_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path, source: str) -> None:
    for name in ("a", "b", "c"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(500 << 20)
    given = str(tmp_path) if source == "dataset" else {"file": FormField(file=str(tmp_path))}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PlanError, match=f"{tmp_path.name}: more than 1 GiB of request bodies; use fewer"):
        read_bodies(RequestPlan.model_validate({source: given}))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


def test_a_byte_order_mark_is_not_sent(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"n": 0}\n{"n": 1}\n', encoding="utf-8-sig")
    assert [one.body for one in sent(api, 2, dataset=str(path), order="sequential")] == [b'{"n": 0}', b'{"n": 1}']


def test_a_form_of_texts_alone_is_still_a_form(api: Api) -> None:
    (one,) = sent(api, multipart={"a": FormField(text="1"), "b": FormField(text="2")})
    assert {name: part.get_payload(decode=True) for name, part in parts(one).items()} == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        (Auth(bearer="T_TOKEN"), "authorization", "Bearer s3cret"),
        (Auth(user="T_USER", password="T_TOKEN"), "authorization", "Basic bWU6czNjcmV0"),
        (Auth(header="X-Api-Key", env="T_TOKEN"), "x-api-key", "s3cret"),
    ],
)
def test_secrets_come_from_the_environment(
    api: Api, monkeypatch: pytest.MonkeyPatch, auth: Auth, header: str, value: str
) -> None:
    monkeypatch.setenv("T_TOKEN", "s3cret")
    monkeypatch.setenv("T_USER", "me")
    (one,) = sent(api, auth=auth)
    assert one.headers[header] == value


@pytest.mark.parametrize("held", [None, "", "s3cret\nX-Other: 1"])
def test_a_secret_that_cannot_be_sent_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, held: str | None) -> None:
    monkeypatch.delenv("T_TOKEN", raising=False)
    if held is not None:
        monkeypatch.setenv("T_TOKEN", held)
    with pytest.raises(PlanError, match="T_TOKEN") as raised:
        Transport(plan("http://127.0.0.1:1", auth=Auth(bearer="T_TOKEN")), read_bodies(RequestPlan()))
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("path", ["/empty", "/huge", "/204", "/201", "/ok?with=query"])
def test_any_2xx_is_good_however_long_its_body(api: Api, path: str) -> None:
    assert send(api, 2, path=path) == [Reply(), Reply()]


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 429, 500, 503])
def test_every_other_status_is_an_error_and_redirects_are_not_followed(api: Api, status: int) -> None:
    assert send(api, path=f"/{status}") == [Reply(f"http {status}")]
    assert len(api.asked) == 1


GOOD = AnswerCheck(json_paths={"$.outputs[*].score": {"type": "number"}})


@pytest.mark.parametrize(
    ("path", "check", "failure"),
    [
        ("/404", AnswerCheck(status=(404,)), None),
        ("/ok", AnswerCheck(status=(201, 202)), "http 200"),
        ("/ok", GOOD, None),
        ("/failed", GOOD, "the answer fails the check of $.outputs[*].score"),
        ("/ok", AnswerCheck(json_paths={"$.outputs[0].score": 0.5}), None),
        (
            "/ok",
            AnswerCheck(json_paths={"$.outputs[*].score": 0.5}),
            "the answer fails the check of $.outputs[*].score",
        ),
        ("/text", GOOD, "the answer is not JSON"),
        ("/empty", GOOD, "the answer is not JSON"),
        ("/deep", GOOD, "the answer is not JSON"),
        ("/500", GOOD, "http 500"),
        ("/ok", AnswerCheck(json_schema={"required": ["outputs"]}), None),
        ("/failed", AnswerCheck(json_schema={"not": {"required": ["error"]}}), "the answer does not match the schema"),
    ],
)
def test_an_answer_is_good_when_the_checks_say_so(api: Api, path: str, check: AnswerCheck, failure: str | None) -> None:
    assert send(api, path=path, check=check) == [Reply(failure)]


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (AnswerCheck(json_paths={"$.[": 1}), r"'\$\.\[' is not a JSON path"),
        (AnswerCheck(json_paths={"$.a": {"type": "numbr"}}), "not a JSON schema"),
        (AnswerCheck(json_schema={"required": "outputs"}), "not a JSON schema"),
    ],
)
def test_a_check_that_is_none_is_refused(check: AnswerCheck, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        checker(check)


@pytest.mark.usefixtures("needs_machine")
def test_a_stream_gives_the_times_of_its_tokens(api: Api) -> None:
    (reply,) = send(api, path="/stream", stream="openai")
    assert reply.failure is None
    assert reply.tokens == TOKENS
    assert reply.first_token_s == pytest.approx(FIRST_S, abs=0.02)
    assert reply.last_token_s == pytest.approx(FIRST_S + (TOKENS - 1) * BETWEEN_S, abs=0.05)


def test_the_server_knows_better_how_many_tokens_there_were(api: Api) -> None:
    (reply,) = send(api, path="/stream-usage", stream="openai")
    assert reply.tokens == 50


@pytest.mark.parametrize(
    ("path", "failure"),
    [
        ("/stream-nothing", "the stream had no tokens"),
        ("/stream-fails", "an error in the stream"),
        ("/stream-rubbish", "a streamed event is not JSON"),
        ("/stream-breaks-off", "broken answer"),
        ("/stream-ends-early", "the stream ended without [DONE] or a finish_reason"),
        ("/ok", 'the answer holds no events of a stream; does the request ask for one ("stream": true)?'),
        ("/503", "http 503"),
    ],
)
def test_a_stream_that_is_none_has_failed(api: Api, path: str, failure: str) -> None:
    assert send(api, path=path, stream="openai") == [Reply(failure)]


def test_a_certificate_is_checked_unless_told_otherwise(certificate: Path) -> None:
    with serving(certificate) as secure:
        (refused,) = send(secure)
        assert refused.failure == "TLS error: self-signed certificate"
        assert send(secure, ca_file=str(certificate)) == [Reply()]
        assert send(secure, verify_tls=False) == [Reply()]


@pytest.mark.usefixtures("needs_machine")
def test_the_first_token_comes_after_the_connection_is_made(certificate: Path) -> None:
    """A busy server's handshakes wait for it as its answers do, and so do users."""
    with serving(certificate, slow_s=0.3) as secure:
        (reply,) = send(secure, path="/stream", stream="openai", verify_tls=False)
    assert reply.failure is None
    assert reply.first_token_s == pytest.approx(0.3 + FIRST_S, abs=0.1)


def test_plain_http_where_tls_is_expected_is_an_error(api: Api) -> None:
    secure = Api(api.url.replace("http", "https"))
    (reply,) = send(secure)
    assert reply.failure is not None
    assert "TLS" in reply.failure


def test_a_file_of_certificates_that_has_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("nothing", encoding="utf-8")
    with pytest.raises(PlanError, match=r"ca.pem holds no certificates"):
        Transport(plan("https://127.0.0.1:1", ca_file=str(path)), read_bodies(RequestPlan()))


@pytest.mark.usefixtures("needs_machine")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_folder_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    read = "from loadtest import PlanError, RequestPlan, read_bodies\nimport os, sys\nos.seteuid(65534)\n"
    read += "try:\n    read_bodies(RequestPlan(file=sys.argv[1]))\nexcept PlanError as error:\n    print(error)"
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", read, closed], capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot read the folder {closed}: Permission denied\n"


@pytest.mark.usefixtures("needs_machine")
@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"dataset": "{folder}"}, "has no files"),
        ({"file": "{folder}/none.png"}, "there is no such file"),
        ({"multipart": {"image": {"file": "{folder}"}}}, "has no files"),
        ({"auth": {"bearer": "NO_SUCH_VARIABLE"}}, "NO_SUCH_VARIABLE is not set"),
        ({"check": {"json_paths": {"$$": 1}}}, "is not a JSON path"),
    ],
)
def test_the_program_refuses_what_is_the_users_mistake(tmp_path: Path, request_: dict[str, Any], said: str) -> None:
    asked = json.loads(json.dumps(request_).replace("{folder}", str(tmp_path)))
    with LoadGenerator() as generator, pytest.raises(LoadTestError, match=said):
        generator.measure(plan("http://127.0.0.1:1", **asked), lambda _: None)
