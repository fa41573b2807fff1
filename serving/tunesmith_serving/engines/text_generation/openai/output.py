"""The form of an answer: OpenAI's `response_format`, and vLLM's `structured_outputs`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tunesmith_serving.engines.text_generation.structured import grammar
from tunesmith_serving.engines.text_generation.structured.grammar import Grammar, GrammarError

MAX_CHOICES = 1000
KINDS = ("json", "regex", "choice", "grammar", "json_object")


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class JsonSchemaFormat(_Part):
    """A schema with its name. With `strict: true`, what cannot be enforced of it is refused; else it is ignored."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None

    def grammar(self) -> Grammar:
        """Return the grammar of the schema."""
        return grammar.json_schema(self.schema_, lenient=not self.strict)


class ResponseFormat(_Part):
    """`response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Annotated[JsonSchemaFormat | None, Field(validate_default=True)] = None

    @field_validator("json_schema")
    @classmethod
    def _only_for_its_type(cls, value: JsonSchemaFormat | None, info: Any) -> JsonSchemaFormat | None:  # noqa: ANN401
        wanted = info.data.get("type") == "json_schema"
        if wanted and value is None:
            raise ValueError('is required by type "json_schema": {"name": "...", "schema": {...}, "strict": true}')
        if not wanted and value is not None and "type" in info.data:
            raise ValueError('goes with type "json_schema" only; write that type, or leave this out')
        return value


class StructuredOutputs(_Part):
    """`structured_outputs`: one of a JSON schema, a regular expression, texts to choose from and a grammar."""

    json_: Annotated[dict[str, Any] | str | None, Field(alias="json")] = None
    regex: Annotated[str | None, Field(min_length=1)] = None
    choice: Annotated[list[Annotated[str, Field(min_length=1)]] | None, Field(min_length=1, max_length=MAX_CHOICES)] = (
        None
    )
    grammar: Annotated[str | None, Field(min_length=1)] = None
    json_object: Literal[True] | None = None
    # JSON is written without whitespace, with and without this.
    disable_any_whitespace: bool | None = None
    disable_additional_properties: bool | None = None
    whitespace_pattern: str | None = None
    structural_tag: Any = None

    @field_validator("json_")
    @classmethod
    def _read_schema(cls, value: dict[str, Any] | str | None) -> dict[str, Any] | str | None:
        if not isinstance(value, str):
            return value
        try:
            schema = grammar.parse_schema(value)
        except GrammarError as error:
            raise ValueError(str(error)) from None
        return schema

    @field_validator("disable_additional_properties", "whitespace_pattern", "structural_tag")
    @classmethod
    def _refuse(cls, value: object, info: Any) -> object:  # noqa: ANN401
        if not value:
            return value
        raise ValueError({
            "disable_additional_properties": "is not supported; write additionalProperties: false in the schema",
            "whitespace_pattern": "is not supported: JSON is written without whitespace; leave it out",
            "structural_tag": "is not supported; use tools, or grammar",
        }[info.field_name])  # fmt: skip


class OutputFields(BaseModel):
    """The fields of a request that say what its answer must be."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None

    @field_validator("structured_outputs")
    @classmethod
    def _one_kind(cls, value: StructuredOutputs | None, info: Any) -> StructuredOutputs | None:  # noqa: ANN401
        if value is None:
            return None
        given = [name for name in KINDS if getattr(value, "json_" if name == "json" else name) is not None]
        if len(given) != 1:
            found = f"has {' and '.join(given)}" if given else "has none of them"
            raise ValueError(f"must have one of {', '.join(KINDS)}; it {found}")
        form = info.data.get("response_format")
        if form is not None and form.type != "text":
            raise ValueError("cannot be combined with response_format; leave one out")
        return value

    def output_grammar(self) -> tuple[str, Grammar] | None:
        """Return the field that says what the answer must be, and its grammar; None if it may be any text.

        Raises:
            GrammarError: It is nested too deeply.
        """
        if self.response_format is not None and self.response_format.type != "text":
            schema = self.response_format.json_schema
            if schema is None:
                return "response_format", grammar.json_object()
            return "response_format.json_schema.schema", schema.grammar()
        given = self.structured_outputs
        if given is None:
            return None
        if isinstance(given.json_, dict):
            return "structured_outputs.json", grammar.json_schema(given.json_)
        if given.regex is not None:
            return "structured_outputs.regex", grammar.regex(given.regex)
        if given.choice is not None:
            return "structured_outputs.choice", grammar.choice(given.choice)
        if given.grammar is not None:
            return "structured_outputs.grammar", Grammar("gbnf", given.grammar)
        return "structured_outputs.json_object", grammar.json_object()
