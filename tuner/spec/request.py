"""The spec's `request:` section: what is sent, how it authenticates, and what a good answer is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from loadtest.request.http_syntax import HEADER_VALUE, TARGET, TOKEN, as_metadata
from search_spaces.reading import odd_value, quoted
from tuner.spec.llm import LlmSpec
from tuner.spec.quantities import Seconds, Share
from tuner.spec.section import Section, Text

_FRAMING = ("content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer")
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class FormFieldSpec(Section):
    """A text, or a file with its type; of a folder each request takes one file."""

    text: Text | None = None
    file: str | None = None
    type: str | None = Field(default=None, pattern=r"^[\w.+-]+/[\w.+-]+$")

    @model_validator(mode="before")
    @classmethod
    def _bare_text(cls, value: object) -> object:
        return value if isinstance(value, Mapping) else {"text": value}

    @model_validator(mode="after")
    def _one_content(self) -> FormFieldSpec:
        if (self.text is None) == (self.file is None):
            raise ValueError("needs either text or file")
        return self


class BasicSpec(Section):
    """Names of environment variables."""

    user: EnvironmentName
    password: EnvironmentName


class AuthSpec(Section):
    """Where the secret is: names of environment variables, so that it stands in no file."""

    bearer: EnvironmentName | None = None
    basic: BasicSpec | None = None
    header: str | None = Field(default=None, pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
    env: EnvironmentName | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> AuthSpec:
        named = self.header is not None or self.env is not None
        if [self.bearer is not None, self.basic is not None, named].count(True) != 1 or (
            named and (self.header is None or self.env is None)
        ):
            raise ValueError("needs one of bearer: VARIABLE, basic: {user: VARIABLE, password: VARIABLE}, "
                             "and header: NAME with env: VARIABLE")  # fmt: skip
        return self


class CheckSpec(Section):
    """What a good answer is: its status (2xx without one), values at JSON paths, a JSON schema or a file with one."""

    status: tuple[Annotated[int, Field(ge=100, le=599)], ...] = ()
    json_paths: Mapping[str, Any] = Field(default_factory=dict, alias="json")
    json_schema: Mapping[str, Any] | str | None = Field(default=None, alias="schema")

    @field_validator("status", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        if not isinstance(value, int | list | tuple):
            raise ValueError(f"is a status, as in 200, or a list of those, not {quoted(value)}")
        return (value,) if isinstance(value, int) else value


class TlsSpec(Section):
    """The server speaks https: a file of certificates to trust in place of the system's, or no check at all."""

    verify: bool = True
    ca: str | None = None


class OtherRequestSpec(Section):
    """A request of another path, which `share` of all requests are: of another model of the same server."""

    path: str = Field(pattern=r"^/[!-~]*$")
    share: Share = Field(gt=0, lt=1)
    json_body: Any = Field(default=None, alias="json")
    dataset: str | None = None
    check: CheckSpec | None = Field(default=None, description="what a good answer of it is; default: as the request's")

    @model_validator(mode="after")
    def _one_body(self) -> OtherRequestSpec:
        if (self.json_body is None) == (self.dataset is None):
            raise ValueError("needs json or dataset, and not both")
        return self


class RequestSpec(Section):
    """One request, or a source of bodies of which every request takes one."""

    protocol: Literal["http", "grpc"] = "http"
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = "POST"
    path: str = Field(default="/", pattern=r"^/")
    headers: Mapping[str, Text] = Field(default_factory=dict)
    json_body: Any = Field(default=None, alias="json")
    body: str | None = None
    dataset: str | None = None
    file: str | None = None
    multipart: Mapping[str, FormFieldSpec] | None = Field(default=None, min_length=1)
    order: Literal["random", "sequential"] = "random"
    auth: AuthSpec | None = None
    check: CheckSpec | None = None
    stream: Literal["openai"] | None = None
    llm: LlmSpec | None = None
    others: tuple[OtherRequestSpec, ...] = Field(
        default=(), description="requests of other paths, each with its share; the rest are the request itself"
    )
    tls: TlsSpec | None = None
    timeout: Seconds | None = Field(default=None, description="default: 10s, or twice the slowest limit of the SLO")

    @field_validator("path", mode="after")
    @classmethod
    def _is_visible(cls, path: str) -> str:
        if not TARGET.fullmatch(path):
            raise ValueError(f"{quoted(path)} must hold visible ASCII only; percent-encode the rest")
        return path

    @field_validator("headers", mode="after")
    @classmethod
    def _can_be_sent(cls, headers: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in headers.items():
            if not TOKEN.fullmatch(name):
                raise ValueError(f"{quoted(name)} is not the name of a header")
            if name.lower() in _FRAMING:
                raise ValueError(f"{quoted(name)} says where a request ends, which tune writes itself; remove it")
            if not HEADER_VALUE.fullmatch(value):
                raise ValueError(
                    f"the value of {quoted(name)} holds a line break, or a character that is not in Latin-1, which is "
                    "all that a header can carry; encode it as the server expects it"
                )
        return headers

    @field_validator("json_body", mode="after")
    @classmethod
    def _is_json(cls, value: Any) -> Any:
        if (odd := odd_value({"json": value})) is not None:
            raise ValueError(f"{odd}, which JSON has no word for")
        return value

    @model_validator(mode="after")
    def _one_body(self) -> RequestSpec:
        given = [name for name, value in (("json", self.json_body), ("body", self.body), ("dataset", self.dataset),
                                          ("file", self.file), ("multipart", self.multipart))
                 if value is not None]  # fmt: skip
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other; keep one")
        if sum(one.share for one in self.others) >= 1:
            raise ValueError("the shares of others leave nothing for the request itself; make them less than 100%")
        if self.others and (self.protocol == "grpc" or self.llm is not None or self.multipart is not None):
            raise ValueError("others go with plain requests by http; remove others, or llm, multipart and grpc")
        if self.stream is not None and any(one.check is not None for one in self.others):
            raise ValueError(
                "others beside stream are read as streams too, and what a stream must hold is known; remove check from "
                "others, or measure paths that do not stream by themselves"
            )
        if self.llm is not None and (given not in ([], ["json"]) or self.protocol == "grpc" or self.method != "POST"):
            raise ValueError(
                "llm makes prompts of POST requests by HTTP; only json goes with it, for what else they say"
            )
        if self.llm is not None and self.json_body is not None and not isinstance(self.json_body, Mapping):
            raise ValueError("json beside llm is a mapping: what requests say beside their prompt")
        plain = (self.stream, self.check, self.multipart, self.tls)
        if self.protocol == "grpc" and any(one is not None for one in plain):
            raise ValueError("protocol: grpc goes without stream, check, multipart and tls; remove them")
        if self.protocol == "grpc":
            as_metadata(self.headers)
        if self.stream is not None and self.check is not None:
            raise ValueError("stream and check exclude each other: what a stream must hold is known; remove check")
        return self
