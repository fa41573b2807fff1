"""From the body of a request to the prompts that the model continues."""

import json
from dataclasses import dataclass
from typing import Protocol

from tunesmith_serving.engines.text_generation.batching.constraint import ConstraintSource
from tunesmith_serving.engines.text_generation.batching.types import GenerationRequest, SamplingParams
from tunesmith_serving.engines.text_generation.openai.constraining import constraint_of
from tunesmith_serving.engines.text_generation.openai.encoding import ApiTokenizer, encode, prompt_errors
from tunesmith_serving.engines.text_generation.openai.prompt import Template, make_prompts
from tunesmith_serving.engines.text_generation.openai.schema import ChatRequest, CompletionRequest
from tunesmith_serving.engines.text_generation.openai.tools.arguments import ToolSchemaError, schema_rule
from tunesmith_serving.engines.text_generation.openai.tools.plan import ToolPlan, ToolsUnsupportedError, plan_tools
from tunesmith_serving.engines.text_generation.structured.compiler import GrammarCompiler
from tunesmith_serving.engines.text_generation.structured.grammar import Grammar, GrammarError
from tunesmith_serving.http.errors import ApiError

Body = ChatRequest | CompletionRequest


@dataclass(frozen=True)
class Written:
    """A prompt of a request.

    Attributes:
        request: Its token ids, and how to continue them.
        echo: The text that the answers to it begin with.
        tools: How the answers to it call tools; None if they may not.
    """

    request: GenerationRequest
    echo: str = ""
    tools: ToolPlan | None = None


class Writer(Protocol):
    """Makes the prompts of a request."""

    async def write(self, body: Body) -> list[Written]:
        """Return the prompts of a request.

        Raises:
            ApiError: The model cannot read the request.
        """


class PromptWriter:
    """Writes what a language model continues: messages by the chat template, or texts and token ids as they are."""

    def __init__(self, tokenizer: ApiTokenizer, template: Template | None, compiler: GrammarCompiler) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._compiler = compiler

    async def write(self, body: Body) -> list[Written]:
        """Return the prompts of a request.

        Raises:
            ApiError: There is no chat template, it refuses the messages, a text cannot be tokenised, or the answer's
                form cannot be followed.
        """
        params = body.params()
        constraint = await constraint_of(body, self._compiler)
        # Before the prompt: that the model takes no tools is said better here than by its template.
        tools = self._tools(body) if isinstance(body, ChatRequest) else None
        with prompt_errors("messages" if isinstance(body, ChatRequest) else "prompt"):
            prompts = make_prompts(body, self._template)
            ids = [await encode(prompt, self._tokenizer) for prompt in prompts]
        if tools is not None and tools.grammar is not None:
            constraint = await self._compile(tools.grammar)
        if isinstance(body, ChatRequest):
            shown = tools.shown_tokens if tools else ()
            return [
                Written(GenerationRequest(found, params, constraint=constraint, shown_tokens=shown), tools=tools)
                for found in ids
            ]
        if not body.echo:
            return [Written(_continuing(found, params, constraint)) for found in ids]
        return [
            Written(
                _continuing(found, params, constraint),
                self._tokenizer.decode(prompt.ids) if prompt.text is None else prompt.text,
            )
            for prompt, found in zip(prompts, ids, strict=True)
        ]

    async def _compile(self, grammar: Grammar) -> ConstraintSource:
        try:
            return await self._compiler.compile(grammar)
        except GrammarError as error:
            raise ApiError(400, f"tools: {error}", param="tools", code="invalid_value") from None

    def _tools(self, body: ChatRequest) -> ToolPlan | None:
        template = self._template.source if self._template else None
        try:
            answer = _answer_rule(body) if body.callable_tools else None
            return plan_tools(body, template, self._tokenizer.special_token_id, self._compiler.token, answer)
        except ToolSchemaError as error:
            raise ApiError(400, str(error), param=error.path, code="invalid_value") from None
        except ToolsUnsupportedError as error:
            raise ApiError(400, f"tools: {error}", param="tools", code="unsupported_parameter") from None


def _continuing(ids: tuple[int, ...], params: SamplingParams, constraint: ConstraintSource | None) -> GenerationRequest:
    """Return the request for what follows a prompt."""
    return GenerationRequest(ids, params, constraint=constraint, continues_text=True)


def _answer_rule(body: ChatRequest) -> str | None:
    """Return the rule of an answer that may call tools and otherwise has a form; None if it may be any text.

    Raises:
        ApiError: The form is no JSON.
    """
    found = body.output_grammar()
    if found is None or body.tool_choice.mode == "required":
        return None
    field, grammar = found
    if grammar.syntax != "json_schema":
        message = f"{field}: cannot be combined with tools; leave one out, or send tool_choice: none"
        raise ApiError(400, message, param=field, code="invalid_value")
    return schema_rule(json.loads(grammar.text), grammar.lenient)
