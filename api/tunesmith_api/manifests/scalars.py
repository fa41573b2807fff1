"""Plain YAML scalars, read as kubectl reads them (YAML 1.1 without dates and base 60)."""

from __future__ import annotations

import re

from tunesmith_api.manifests.nodes import Scalar

_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_INT = re.compile(r"[-+]?(0[bB][01_]+|0[oO]?[0-7_]+|0[xX][0-9a-fA-F_]+|[1-9][0-9_]*|0)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# Longer ones are texts: no field takes such numbers, and reading them takes long.
_LONGEST_NUMBER = 400


def resolve_plain(text: str) -> Scalar:
    """Return the value of an unquoted scalar."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if len(text) > _LONGEST_NUMBER:
        return text
    if _INT.fullmatch(text) and text[-1] != "_":
        return _integer(text.replace("_", ""))
    if _FLOAT.fullmatch(text) and text[-1] != "_":
        number = float(text.replace("_", ""))
        # JSON has one kind of number: 3.0 and 3 are the same there.
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    if match := _SPECIAL.fullmatch(text):
        return float(f"{match[1] or ''}{'inf' if match[2] else 'nan'}")
    return text


def _integer(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    if re.fullmatch(r"0[0-7]+", digits):
        return sign * int(digits, 8)
    return sign * int(digits, 0)
