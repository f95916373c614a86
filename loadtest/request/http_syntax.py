"""What may stand in a request: by HTTP, as RFC 9110 and RFC 9112 have it, and by gRPC, whose headers are narrower
(https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, `Custom-Metadata`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a method, a header's name: RFC 9110, section 5.6.2
TARGET = re.compile(r"/[!-~]*")  # what is not ASCII has to be percent-encoded
HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]*")  # one line of Latin-1

_KEY = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[ -~]*")
_BINARY = "-bin"


def as_metadata(headers: Mapping[str, str]) -> tuple[tuple[str, str | bytes], ...]:
    """Their names in lower case; what one whose name ends in `-bin` holds is written in base64. Raises ValueError for
    what gRPC has no form for, without its value, which may be a secret.
    """
    found: list[tuple[str, str | bytes]] = []
    for name, value in headers.items():
        key = name.lower()
        if not _KEY.fullmatch(key):
            raise ValueError(f"{name!r} is no key of gRPC's metadata, which has letters, digits, -, _ and . alone")
        if key.endswith(_BINARY):
            found.append((key, _decoded(name, value)))
        elif _VALUE.fullmatch(value):
            found.append((key, value))
        else:
            raise ValueError(
                f"the value of {name!r} holds what is not ASCII, which gRPC's metadata cannot carry; call it "
                f"{key}{_BINARY} and write its bytes in base64"
            )
    return tuple(found)


def _decoded(name: str, value: str) -> bytes:
    """Base64 may come without its padding, as gRPC allows."""
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"the value of {name!r} is bytes to gRPC, since the name ends in -bin: base64") from error
