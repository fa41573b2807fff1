"""Amounts of CPU and memory, as Kubernetes writes them."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated

from pydantic import BeforeValidator, Field

_FACTORS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
}


def _as_text(value: object) -> object:
    """Return a whole number as the text that it stands for: `cpu: 2` is `cpu: "2"`."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def amount(quantity: str) -> float:
    """Return a quantity as a number: CPUs for `1500m` (1.5), bytes for `2Gi`.

    Raises:
        ValueError: It is not a quantity.
    """
    number = quantity.rstrip("".join(sorted(set("".join(_FACTORS)))))
    factor = _FACTORS.get(quantity[len(number) :])
    try:
        if factor is not None:
            return float(Decimal(number) * factor)
    except InvalidOperation:
        pass
    raise ValueError(f"{quantity!r} is not a quantity")


Cpu = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(
        max_length=16,
        pattern=r"^([1-9][0-9]*(\.[0-9]{1,3})?|0\.[0-9]{1,3}|[1-9][0-9]*m)$",
        # The pattern is for texts, the minimum for numbers.
        json_schema_extra={"x-kubernetes-int-or-string": True, "minimum": 1},
        examples=["2"],
    ),
]
"""CPUs: `2`, `"0.5"` or `500m`."""

Memory = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(
        max_length=24,
        pattern=r"^[1-9][0-9]*(\.[0-9]{1,3})?(k|M|G|T|Ki|Mi|Gi|Ti)$",
        examples=["4Gi"],
    ),
]
"""Bytes, with a unit: `4Gi`. A bare number would be bytes, which nobody means, and is refused."""

CacheMemory = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(
        max_length=24,
        pattern=r"^(auto|0|[1-9][0-9]*(\.[0-9]{1,3})?(k|M|G|T|Ki|Mi|Gi|Ti))$",
        # The pattern is for texts; the only number is 0.
        json_schema_extra={"x-kubernetes-int-or-string": True, "minimum": 0, "maximum": 0},
        examples=["1Gi"],
    ),
]
"""Bytes of a cache, with a unit: `1Gi`; `0` for no cache, `auto` for a share of what is free."""
