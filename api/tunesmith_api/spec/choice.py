"""A field whose values are the names in a registry: a Literal that later registrations extend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, core_schema


@dataclass(frozen=True, eq=False)
class OneOf:
    """Annotates a `str` that must be a key of a registry.

    Attributes:
        registry: The values that the field takes, by name. It is read at each validation.
    """

    registry: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        """The current values of the field."""
        return list(self.registry)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema that validates; its error is that of a Literal."""
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON Schema of a Literal with the same values."""
        return {"type": "string", "enum": self.names}

    def _check(self, value: object) -> str:
        if isinstance(value, str) and value in self.registry:
            return value
        *most, last = [repr(name) for name in self.names]
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(most)} or {last}" if most else last})
