"""Requests whose answers would be read as streams, and are none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tuner.launch.requests import asks_tokens, lacks_bodies, stream_of
from tuner.spec.reading import LoadedSpec
from tuner.spec.request import CheckSpec
from tuner.spec.yaml_file import KeyPath

# The last words of paths at which OpenAI's interface, and those of servers that speak it, answer at once.
_AT_ONCE = (
    "embeddings", "embed", "rerank", "score", "classify", "pooling", "moderations", "tokenize", "detokenize", "models",
)  # fmt: skip
_COMPLETIONS = "completions"


def check_streams(loaded: LoadedSpec) -> None:
    """Raises SpecError for a path that does not stream, since each of its answers would be an error."""
    request = loaded.spec.request
    if stream_of(loaded) is None:
        return
    if request.stream is not None and _at_once(loaded, request.path):
        raise loaded.error(("request", "stream"), f"{request.path} does not stream its answers; remove stream")
    if asks_tokens(loaded) and _at_once(loaded, request.path):
        raise loaded.error(
            ("request", "path"),
            f"{request.path} does not stream its answers, so nobody sees their tokens; limit the latency (p99), and "
            "minimize a cost of requests",
        )
    _check_checks(loaded)
    for key, path, _ in _others(loaded):
        if _at_once(loaded, path):
            raise loaded.error(
                (*key, "path"),
                f"{path} does not stream its answers, and beside a request that streams all are read as streams; "
                "measure it by itself, in a spec of its own",
            )


def _check_checks(loaded: LoadedSpec) -> None:
    """Raises SpecError for a check of what is read as a stream because the server streams. Of a spec that writes
    `stream` itself, its own model says so.
    """
    request = loaded.spec.request
    checks: list[tuple[KeyPath, CheckSpec | None]] = [(("request",), request.check)]
    checks += [(("request", "others", number), one.check) for number, one in enumerate(request.others)]
    for key, found in checks:
        if found is not None:
            raise loaded.error(
                (*key, "check"),
                "the answers are read as streams, as the server sends them, and what a stream must hold is known; "
                "remove check",
            )


def unstreamed(loaded: LoadedSpec) -> Iterator[str]:
    """A sentence for each request that does not ask for the stream as which its answer is read."""
    request = loaded.spec.request
    if stream_of(loaded) is None or request.llm is not None or (request.stream is None and lacks_bodies(loaded)):
        return
    for key, path, body in ((("request",), request.path, request.json_body), *_others(loaded)):
        if _last(path) in _AT_ONCE:
            yield f"{'.'.join(map(str, key))}: {path} may not stream its answers, and all are read as streams"
        asks = not isinstance(body, Mapping) or body.get("stream") is True
        if not asks and _last(path) == _COMPLETIONS:
            yield (
                f"{'.'.join(map(str, key))}.json does not ask {path} for the stream as which its answers are read, so "
                "that all may count as errors; write stream: true in it"
            )


def _at_once(loaded: LoadedSpec, path: str) -> bool:
    """Whether a path surely does not stream: one's own server may do as it likes outside of OpenAI's interface."""
    return _last(path) in _AT_ONCE and (loaded.spec.service.server != "custom" or path.startswith("/v1/"))


def _others(loaded: LoadedSpec) -> Iterator[tuple[KeyPath, str, Any]]:
    for number, one in enumerate(loaded.spec.request.others):
        yield ("request", "others", number), one.path, one.json_body


def _last(path: str) -> str:
    return path.partition("?")[0].rstrip("/").rpartition("/")[2]
