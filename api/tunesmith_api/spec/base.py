"""The base of every API model: camelCase names, no unknown fields, and rules that are written once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel


@dataclass(frozen=True)
class Rule:
    """A rule over several fields of one object, as CEL for the API server and as Python for everything else.

    Attributes:
        cel: The rule as a CEL expression over `self`; true means valid.
        message: What is wrong and what to write instead.
        check: The same rule over the pydantic model; true means valid.
    """

    cel: str
    message: str
    check: Callable[[Any], bool]


class SpecModel(BaseModel):
    """An object of the API. Subclasses list their cross-field rules in `rules`."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, allow_inf_nan=False
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        for rule in self.rules:
            if not rule.check(self):
                raise ValueError(rule.message)
        return self

    def to_api(self) -> dict[str, Any]:
        """Return the object as it is written in a manifest: camelCase, unset optional fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
