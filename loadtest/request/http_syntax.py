"""What may stand in an HTTP request, as RFC 9110 and RFC 9112 have it."""

from __future__ import annotations

import re

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a method, a header's name: RFC 9110, section 5.6.2
TARGET = re.compile(r"/[!-~]*")  # what is not ASCII has to be percent-encoded
HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]*")  # one line of Latin-1
