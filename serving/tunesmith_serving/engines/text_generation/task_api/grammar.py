"""`grammar` of Hugging Face's task API: what an answer must be, as text-generation-inference names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from tunesmith_serving.engines.predictor import InvalidInputError
from tunesmith_serving.engines.text_generation.batching.constraint import ConstraintSource
from tunesmith_serving.engines.text_generation.structured.grammar import (
    Grammar,
    GrammarError,
    json_schema,
    parse_schema,
    regex,
)

if TYPE_CHECKING:  # publish loads the engine where llguidance is not installed
    from tunesmith_serving.engines.text_generation.structured.compiler import GrammarCompiler


class AnswerGrammar(BaseModel):
    """What the answer must be.

    Attributes:
        type: How `value` is to be read.
        value: A JSON schema or its JSON text, an object with the schema as `schema`, or a regular expression.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["json", "regex", "json_schema"]
    value: Any

    @field_validator("value")
    @classmethod
    def _of_the_type(cls, value: object, info: ValidationInfo) -> object:
        kind = info.data.get("type")
        if kind == "regex" and not (isinstance(value, str) and value):
            raise ValueError("must be a regular expression: a string that is not empty")
        if kind == "json_schema" and not (isinstance(value, dict) and isinstance(value.get("schema"), dict)):
            raise ValueError('must be an object with a JSON schema: {"name": NAME, "schema": SCHEMA}')
        if kind == "json" and isinstance(value, str):
            return parse_schema(value)
        if kind == "json" and not isinstance(value, dict):
            raise ValueError("must be a JSON schema: an object, or its JSON text")
        return value

    async def compiled(self, compiler: GrammarCompiler) -> ConstraintSource:
        """Return what follows the grammar.

        Raises:
            InvalidInputError: It is not valid, or too complex.
        """
        schema = ("schema",) if self.type == "json_schema" else ()
        try:
            return await compiler.compile(self._read())
        except GrammarError as error:
            path = (error.path,) if error.path else ()
            raise InvalidInputError(str(error), "parameters", "grammar", "value", *schema, *path) from None

    def _read(self) -> Grammar:
        if self.type == "regex":
            return regex(self.value)
        return json_schema(self.value["schema"] if self.type == "json_schema" else self.value)
