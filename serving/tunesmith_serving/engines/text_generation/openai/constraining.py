"""Compiling what the answer to a request must be, and errors of it as HTTP errors."""

from tunesmith_serving.engines.text_generation.batching.constraint import ConstraintSource
from tunesmith_serving.engines.text_generation.openai.output import OutputFields
from tunesmith_serving.engines.text_generation.structured.compiler import GrammarCompiler
from tunesmith_serving.engines.text_generation.structured.grammar import GrammarError
from tunesmith_serving.http.errors import ApiError


async def constraint_of(body: OutputFields, compiler: GrammarCompiler) -> ConstraintSource | None:
    """Return what the answer to a request must be; None if it may be any text.

    Raises:
        ApiError: The field cannot be followed.
    """
    try:
        found = body.output_grammar()
    except GrammarError as error:
        field = "response_format.json_schema.schema" if body.response_format else "structured_outputs.json"
        raise grammar_error(error, field) from None
    if found is None:
        return None
    field, wanted = found
    try:
        return await compiler.compile(wanted)
    except GrammarError as error:
        raise grammar_error(error, field, strict=field.startswith("response_format")) from None


def grammar_error(error: GrammarError, field: str, strict: bool = False) -> ApiError:
    """Return the error for a grammar that a field gives.

    Args:
        error: What is wrong.
        field: The field's path in the request.
        strict: Whether the request has a field `strict`, by which what cannot be enforced is ignored.
    """
    separator = "" if not error.path or error.path.startswith("[") else "."
    param = f"{field}{separator}{error.path}"
    remedy = "; or send strict: false, which ignores it" if strict and error.can_be_ignored else ""
    return ApiError(400, f"{param}: {error}{remedy}", param=param, code="invalid_value")
