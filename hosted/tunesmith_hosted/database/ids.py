"""Identifiers, in OpenAI's forms."""

from __future__ import annotations

import secrets
import string
import time
from typing import Literal

Prefix = Literal[
    "org", "proj", "key", "file", "upload", "part", "ftjob", "ftevent", "ftckpt", "cp", "resp", "audit_log"
]

_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 24
_UNDERSCORE = frozenset({"proj", "key", "upload", "part", "ftckpt", "cp", "resp"})


def new_id(prefix: Prefix) -> str:
    """Return a new identifier, such as `file-…` or `upload_…`, with 142 random bits."""
    mark = "_" if prefix in _UNDERSCORE else "-"
    number, letters = secrets.randbelow(len(_ALPHABET) ** _LENGTH), []
    for _ in range(_LENGTH):
        number, letter = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[letter])
    return prefix + mark + "".join(letters)


def new_request_id() -> str:
    """Return a new identifier of a request, `req_…` with 128 random bits in hexadecimal digits, as OpenAI's are."""
    return "req_" + secrets.token_hex(16)


def new_ordered_id(prefix: Prefix) -> str:
    """Return a new identifier that sorts after those made before, with 48 random bits: times are whole seconds."""
    mark = "_" if prefix in _UNDERSCORE else "-"
    return f"{prefix}{mark}{time.time_ns() // 1000:014x}{secrets.token_hex(6)}"
