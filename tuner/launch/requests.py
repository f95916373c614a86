"""The request that readiness and the load test send, as the spec's `request:` describes it."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest import (
    AnswerCheck,
    Auth,
    FormField,
    OtherRequest,
    PlanError,
    RequestPlan,
    TraceError,
    WrongCheck,
    WrongLocustfile,
    check_locustfile,
    checker,
    infer_request,
    read_bodies,
    read_others,
    read_trace,
    secret_headers,
)
from runners.servers import ServerRequest
from search_spaces.reading import InputError, is_file, is_folder, read_json, shown
from tuner.launch.adapter import serving
from tuner.launch.prompts import completed, llm_plan
from tuner.spec.reading import LoadedSpec
from tuner.spec.request import AuthSpec, CheckSpec, TlsSpec


@dataclass(frozen=True)
class RequestSource:
    """`sample` is one body that is really sent, `headers` hold secrets; `plan` is what the load
    generator is told, `tls` that it is https. Where it is not `described`, the bodies are asked of the running server.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    sample: bytes | None
    plan: RequestPlan
    tls: bool
    described: bool = True

    def __repr__(self) -> str:
        return f"RequestSource({self.method} {self.path})"


_MAX_SCHEMA_BYTES = 4 << 20


def request_source(loaded: LoadedSpec, generated: Path | None = None) -> RequestSource:
    """Reads every file that requests need. `generated` holds bodies made for the server, a line of JSON each.

    Raises SpecError for what is missing, empty, or not what it says.
    """
    spec = loaded.spec.request
    plan = _plan(loaded)
    asked = adapter_request(loaded)
    if asked is not None:
        plan = _adapted(plan, loaded, asked, generated)
    try:
        bodies = read_bodies(plan)
    except PlanError as error:
        given = next((key for key in ("dataset", "file", "multipart", "llm") if getattr(spec, key) is not None), "body")
        raise loaded.error(("request", given), str(error)) from error
    try:
        read_others(plan)
    except PlanError as error:
        raise loaded.error(("request", "others"), str(error)) from error
    if plan.protocol == "v2-grpc":
        _check_grpc(loaded, plan.path, [body.content for body in bodies if body.content])
    _check_arrivals(loaded)
    _check_certificates(loaded, plan.ca_file)
    content_type = {} if bodies[0].content_type is None else {"Content-Type": bodies[0].content_type}
    try:
        headers = content_type | plan.headers | secret_headers(plan.auth)
    except PlanError as error:
        raise loaded.error(("request", "auth"), str(error).removeprefix("request.auth: ")) from error
    return RequestSource(
        plan.method, plan.path, headers, bodies[0].content or None, plan, spec.tls is not None,
        described=generated is not None or not must_describe(loaded),
    )  # fmt: skip


def _check_grpc(loaded: LoadedSpec, path: str, bodies: Sequence[bytes]) -> None:
    """Every body is a request of the V2 protocol."""
    for number, body in enumerate(bodies, start=1):
        try:
            infer_request(path, body)
        except PlanError as error:
            where = f" (request {number} of {loaded.spec.request.dataset})" if loaded.spec.request.dataset else ""
            raise loaded.error(("request",), str(error).removeprefix("request: ") + where) from error


def adapter_request(loaded: LoadedSpec) -> ServerRequest | None:
    """The request that the server's adapter describes. None for a custom server, and if a locustfile makes the
    requests.
    """
    found = serving(loaded)
    return None if found is None or loaded.spec.load.locustfile is not None else found.adapter.request(found.model)


def lacks_bodies(loaded: LoadedSpec) -> bool:
    """Whether the spec gives no request bodies."""
    spec = loaded.spec.request
    given = (spec.json_body, spec.body, spec.dataset, spec.file, spec.multipart, spec.llm)
    return all(one is None for one in given)


def asks_tokens(loaded: LoadedSpec) -> bool:
    """Whether the SLO or the objective is about tokens. A stage of a chain has the SLO of its entry, and is asked in
    its own way.
    """
    return loaded.spec.counts_tokens or (loaded.spec.limits_tokens and not loaded.is_called)


def stream_of(loaded: LoadedSpec) -> str | None:
    """What streams answers are read as: those that the spec says, or the server's own where its adapter makes the
    requests or something is asked about tokens. None where they are read whole.
    """
    spec, asked = loaded.spec, adapter_request(loaded)
    if asked is None or (spec.request.llm is None and "stream" in spec.request.model_fields_set):
        return spec.request.stream
    by_server = spec.request.llm is not None or lacks_bodies(loaded) or asks_tokens(loaded)
    return spec.request.stream or (asked.stream if by_server else None)


def must_describe(loaded: LoadedSpec) -> bool:
    """Whether the running server has to say what its requests look like."""
    asked = adapter_request(loaded)
    return asked is not None and lacks_bodies(loaded) and loaded.spec.request.method not in ("GET", "HEAD")


def _adapted(plan: RequestPlan, loaded: LoadedSpec, asked: ServerRequest, generated: Path | None) -> RequestPlan:
    """The plan with the adapter's request, unless the spec says another."""
    given, update = loaded.spec.request.model_fields_set, dict[str, Any]()
    if "path" not in given:
        update["path"] = asked.path
    if "method" not in given:
        update["method"] = asked.method
    if plan.llm is not None:
        update["llm"] = completed(plan.llm, asked)
    if lacks_bodies(loaded):
        update["dataset"] = None if generated is None else str(generated)
        update["headers"] = {"Content-Type": asked.content_type, **plan.headers}
    update["stream"] = stream_of(loaded)
    return plan.model_copy(update=update)


def _plan(loaded: LoadedSpec) -> RequestPlan:
    spec, folder = loaded.spec.request, loaded.folder
    tls = spec.tls or TlsSpec()
    headers = dict(spec.headers)
    body = json.dumps(spec.json_body) if spec.json_body is not None and spec.llm is None else spec.body
    lines = spec.dataset is not None and not is_folder(folder / spec.dataset)
    if (body is not None or lines) and not any(name.lower() == "content-type" for name in headers):
        is_json = lines or _is_json(body or "")
        headers["Content-Type"] = "application/json" if is_json else "text/plain; charset=utf-8"
    forms = None if spec.multipart is None else {
        name: FormField(text=one.text, file=str(folder / one.file) if one.file else None, type=one.type)
        for name, one in spec.multipart.items()
    }  # fmt: skip
    return RequestPlan(
        protocol="v2-grpc" if spec.protocol == "grpc" else "http", method=spec.method, path=spec.path,
        headers=headers, body=body, multipart=forms, order=spec.order,
        dataset=None if spec.dataset is None else str(folder / spec.dataset),
        file=None if spec.file is None else str(folder / spec.file),
        others=tuple(
            OtherRequest(
                path=one.path, share=one.share, body=None if one.json_body is None else json.dumps(one.json_body),
                dataset=None if one.dataset is None else str(folder / one.dataset),
                check=_check(loaded, one.check, ("request", "others", number, "check")),
            )
            for number, one in enumerate(spec.others)
        ),
        auth=_auth(spec.auth), check=_check(loaded, spec.check, ("request", "check")), stream=spec.stream,
        llm=llm_plan(loaded), verify_tls=tls.verify,
        ca_file=None if tls.ca is None else str(folder / tls.ca),
    )  # fmt: skip


def _auth(spec: AuthSpec | None) -> Auth | None:
    if spec is None:
        return None
    user, password = (spec.basic.user, spec.basic.password) if spec.basic else (None, None)
    return Auth(bearer=spec.bearer, user=user, password=password, header=spec.header, env=spec.env)


def _check(loaded: LoadedSpec, spec: CheckSpec | None, key: tuple[str | int, ...]) -> AnswerCheck | None:
    if spec is None:
        return None
    schema: Any = spec.json_schema
    if isinstance(schema, str):
        path = loaded.folder / schema
        try:
            schema = read_json(path, _MAX_SCHEMA_BYTES)
        except InputError as error:
            raise loaded.error((*key, "schema"), str(error)) from error
    check = AnswerCheck(status=spec.status, json_paths=dict(spec.json_paths), json_schema=schema)
    try:
        checker(check)
    except WrongCheck as error:
        if isinstance(spec.json_schema, str) and error.at[0] == "schema":  # its keys stand in a file of their own
            inside = ".".join(map(str, error.at[1:]))
            said = ": ".join(filter(None, (shown(loaded.folder / spec.json_schema), inside, error.said)))
            raise loaded.error((*key, "schema"), said) from error
        raise loaded.error((*key, *error.at), error.said) from error
    return check


def _check_arrivals(loaded: LoadedSpec) -> None:
    """A trace and a locustfile are sources of requests too."""
    load = loaded.spec.load
    if load.trace is not None:
        try:
            read_trace(loaded.folder / load.trace)
        except TraceError as error:
            raise loaded.error(("load", "trace"), str(error)) from error
    if load.locustfile is None:
        return
    if not is_file(loaded.folder / load.locustfile):
        raise loaded.error(("load", "locustfile"), f"there is no file {shown(loaded.folder / load.locustfile)}")
    try:
        check_locustfile(str(loaded.folder / load.locustfile))
    except WrongLocustfile as error:
        raise loaded.error(("load", "locustfile"), str(error).removeprefix("locustfile: ")) from error


def _check_certificates(loaded: LoadedSpec, path: str | None) -> None:
    if path is None:
        return
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise loaded.error(("request", "tls", "ca"), f"{path} holds no certificates: {error}") from error


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
