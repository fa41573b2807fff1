"""What is said of an object that the API server accepted, but whose spec this operator cannot parse."""

from __future__ import annotations

from pydantic import ValidationError


def invalid_spec(error: ValidationError) -> str:
    """Return the message of a condition: the field, what is wrong with it, and what to do."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in ("spec", *first["loc"]))
    return f"{field}: {first['msg']}. Correct it, or bring the CRDs and the operator to the same version"
