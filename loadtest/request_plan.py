"""The request of a load test's plan: what is sent, what a good answer is, and how it is read."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from loadtest.document import Document
from loadtest.llm import LlmPlan


class FormField(Document):
    """A field of a multipart form: a text, or a file (of a folder's files, each request takes one) and its type."""

    text: str | None = None
    file: str | None = None
    type: str | None = None


class Auth(Document):
    """Names of environment variables that hold the secrets; the secrets themselves are in no document."""

    bearer: str | None = None
    user: str | None = None
    password: str | None = None
    header: str | None = None
    env: str | None = None


class AnswerCheck(Document):
    """What a good answer is. Every value that a JSON path finds must match, and it must find one."""

    status: tuple[int, ...] = ()
    json_paths: dict[str, Any] = Field(default_factory=dict, description="path -> the value, or a JSON schema for it")
    json_schema: Any = None


class OtherRequest(Document):
    """A request of another path for `share` of all arrivals, with one body or those of a file of JSON lines. What a
    good answer is, says the request's own `check` where this has none.
    """

    path: str
    share: float = Field(gt=0, lt=1)
    body: str | None = None
    dataset: str | None = None
    check: AnswerCheck | None = None


class RequestPlan(Document):
    """One HTTP request, or a source of bodies of which each request takes one, at random or in order.

    At most one is set of `body` (sent as it is), `dataset` (the absolute path of a file of JSON lines, or of a folder
    of files), `file` (one file) and `multipart`. An answer is good when its status is 2xx, or as `check` says.
    `stream` reads it as server-sent events. With `v2-grpc` the bodies are requests of the V2 inference protocol as
    JSON, and are sent over gRPC; the path names the model.
    """

    protocol: Literal["http", "v2-grpc"] = "http"
    method: str = "POST"
    path: str = "/"
    headers: dict[str, str] = Field(default_factory=dict)
    body: str | None = None
    dataset: str | None = None
    file: str | None = None
    multipart: dict[str, FormField] | None = None
    order: Literal["random", "sequential"] = "random"
    auth: Auth | None = None
    check: AnswerCheck | None = None
    stream: Literal["openai"] | None = None
    llm: LlmPlan | None = Field(default=None, description="prompts that are made, a fresh one for every request")
    others: tuple[OtherRequest, ...] = Field(default=(), description="the rest of the arrivals are this request")
    verify_tls: bool = True
    ca_file: str | None = None
