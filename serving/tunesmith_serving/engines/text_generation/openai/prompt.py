"""The prompts of a request: what the model reads. Used by the HTTP routes and by `tunesmith_serving.replay`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tunesmith_serving.engines.text_generation.openai.messages import Message, conversation
from tunesmith_serving.engines.text_generation.openai.schema import ChatRequest, CompletionRequest
from tunesmith_serving.engines.text_generation.text.template import TemplateError


class PromptEncoder(Protocol):
    """The part of a tokenizer that a prompt needs."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """Return the token ids of a text."""


class Template(Protocol):
    """The chat template as the API uses it.

    Attributes:
        source: Its text.
    """

    source: str

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
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


def make_prompts(body: ChatRequest | CompletionRequest, template: Template | None) -> list[Prompt]:
    """Return the prompts of a request: its messages rendered by the chat template, or its texts and token ids.

    Raises:
        PromptError: There is no chat template, or it refuses the messages.
    """
    if isinstance(body, ChatRequest):
        return [render_prompt(body.messages, template, tools=body.shown_tools)]
    return [
        Prompt(prompt, add_special_tokens=True) if isinstance(prompt, str) else Prompt(ids=prompt)
        for prompt in body.prompt
    ]


def make_prompt(body: ChatRequest | CompletionRequest, template: Template | None) -> Prompt:
    """Return the prompt of a request that has one.

    Raises:
        PromptError: It has several, there is no chat template, or it refuses the messages.
    """
    prompts = make_prompts(body, template)
    if len(prompts) > 1:
        raise PromptError(f"the request has {len(prompts)} prompts; give one")
    return prompts[0]


def render_prompt(
    messages: Sequence[Message],
    template: Template | None,
    add_generation_prompt: bool = True,
    tools: Sequence[Mapping[str, Any]] = (),
) -> Prompt:
    """Return the prompt of a conversation.

    Raises:
        PromptError: There is no chat template, or it refuses the messages.
    """
    if template is None:
        raise PromptError("this model has no chat template; use /v1/completions")
    try:
        return Prompt(template.render(conversation(messages), add_generation_prompt, tools))
    except TemplateError as error:
        raise PromptError(str(error), "template_error") from None
