"""From the body of a request to the prompts that the model continues."""

from dataclasses import dataclass
from typing import Protocol

from tunesmith_serving.engines.text_generation.batching.types import GenerationRequest
from tunesmith_serving.engines.text_generation.openai.encoding import ApiTokenizer, encode, prompt_errors
from tunesmith_serving.engines.text_generation.openai.output import constraint_of
from tunesmith_serving.engines.text_generation.openai.prompt import Template, make_prompts
from tunesmith_serving.engines.text_generation.openai.schema import ChatRequest, CompletionRequest
from tunesmith_serving.engines.text_generation.structured.compiler import GrammarCompiler

Body = ChatRequest | CompletionRequest


@dataclass(frozen=True)
class Written:
    """A prompt of a request.

    Attributes:
        request: Its token ids, and how to continue them.
        echo: The text that the answers to it begin with.
    """

    request: GenerationRequest
    echo: str = ""


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
        with prompt_errors("messages" if isinstance(body, ChatRequest) else "prompt"):
            prompts = make_prompts(body, self._template)
            ids = [await encode(prompt, self._tokenizer) for prompt in prompts]
        constraint = await constraint_of(body, self._compiler)
        if isinstance(body, ChatRequest) or not body.echo:
            return [Written(GenerationRequest(found, params, constraint=constraint)) for found in ids]
        return [
            Written(
                GenerationRequest(found, params, constraint=constraint),
                self._tokenizer.decode(prompt.ids) if prompt.text is None else prompt.text,
            )
            for prompt, found in zip(prompts, ids, strict=True)
        ]
