"""The prompt of a request: what the model reads. Used by the HTTP routes and by `tunesmith_serving.replay`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tunesmith_serving.engines.text_generation.openai.schema import ChatRequest, CompletionRequest
from tunesmith_serving.engines.text_generation.text.template import TemplateError


class PromptEncoder(Protocol):
    """The part of a tokenizer that a prompt needs."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """Return the token ids of a text."""


class Template(Protocol):
    """The chat template as the API uses it."""

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Return the prompt of a conversation."""


class PromptError(ValueError):
    """A request has no prompt that the model can read.

    Attributes:
        code: OpenAI's code for the error, if there is one.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Prompt:
    """A prompt before it is tokenised.

    Attributes:
        text: The text; None if the request has token ids.
        ids: The request's token ids.
        add_special_tokens: Whether the tokenizer adds its special tokens, such as BOS. The chat template writes them
            itself.
    """

    text: str | None = None
    ids: tuple[int, ...] = ()
    add_special_tokens: bool = False

    def encode(self, tokenizer: PromptEncoder) -> tuple[int, ...]:
        """Return the token ids.

        Raises:
            PromptError: The text cannot be tokenised.
        """
        if self.text is None:
            return self.ids
        try:
            return tuple(tokenizer.encode(self.text, self.add_special_tokens))
        except ValueError as error:
            raise PromptError(str(error), "invalid_value") from None


def make_prompt(body: ChatRequest | CompletionRequest, template: Template | None) -> Prompt:
    """Return the prompt of a request: its messages rendered by the chat template, or its text or token ids.

    Raises:
        PromptError: There is no chat template, or it refuses the messages.
    """
    if isinstance(body, CompletionRequest):
        if isinstance(body.prompt, list):
            return Prompt(ids=tuple(body.prompt))
        return Prompt(body.prompt, add_special_tokens=True)
    if template is None:
        raise PromptError("this model has no chat template; use /v1/completions")
    try:
        return Prompt(template.render(body.conversation()))
    except TemplateError as error:
        raise PromptError(str(error), "template_error") from None
