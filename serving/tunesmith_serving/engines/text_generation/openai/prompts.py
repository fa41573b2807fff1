"""The token ids of prompts: conversations, texts and token ids."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tunesmith_serving.engines.text_generation.openai.messages import Message, conversation
from tunesmith_serving.engines.text_generation.openai.schema import ChatRequest, CompletionRequest
from tunesmith_serving.engines.text_generation.text.template import TemplateError
from tunesmith_serving.http.errors import ApiError

# Longer texts are encoded on another thread, so that they do not block other streams.
LONG_TEXT = 20_000

TokenIds = tuple[int, ...]


class TextTokenizer(Protocol):
    """The tokenizer as the API uses it."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """Return the token ids of a text."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Return the text of token ids."""

    def token(self, token_id: int) -> str:
        """Return a token as the vocabulary spells it; empty if there is no such token."""

    def token_bytes(self, token_id: int) -> bytes:
        """Return the UTF-8 bytes of a token."""


class Template(Protocol):
    """The chat template as the API uses it."""

    def render(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True) -> str:
        """Return the prompt of a conversation."""


class PromptEncoder:
    """Encodes the prompts of requests."""

    def __init__(self, tokenizer: TextTokenizer, template: Template | None) -> None:
        self._tokenizer = tokenizer
        self._template = template

    async def prompts(self, body: ChatRequest | CompletionRequest) -> list[TokenIds]:
        """Return the token ids of each prompt of a request.

        Raises:
            ApiError: A prompt cannot be encoded.
        """
        if isinstance(body, ChatRequest):
            return [await self.conversation(body.messages)]
        return [
            await self.text(prompt, True, "prompt") if isinstance(prompt, str) else prompt for prompt in body.prompt
        ]

    async def conversation(
        self, messages: Sequence[Message], add_generation_prompt: bool = True, add_special_tokens: bool = False
    ) -> TokenIds:
        """Return the token ids of a conversation.

        The chat template writes special tokens such as BOS itself, so the tokenizer adds none by default.

        Raises:
            ApiError: The model has no chat template, or its template refuses the messages.
        """
        if self._template is None:
            raise ApiError(400, "this model has no chat template; use /v1/completions", param="messages")
        try:
            text = self._template.render(conversation(messages), add_generation_prompt)
        except TemplateError as error:
            raise ApiError(400, str(error), param="messages", code="template_error") from None
        return await self.text(text, add_special_tokens, "messages")

    async def text(self, text: str, add_special_tokens: bool, param: str) -> TokenIds:
        """Return the token ids of a text.

        Raises:
            ApiError: The text cannot be encoded; `param` names where it came from.
        """
        encode = self._tokenizer.encode
        try:
            if len(text) < LONG_TEXT:
                return tuple(encode(text, add_special_tokens))
            return tuple(await asyncio.to_thread(encode, text, add_special_tokens))
        except ValueError as error:
            raise ApiError(400, f"{param}: {error}", param=param, code="invalid_value") from None

    def echo(self, body: ChatRequest | CompletionRequest) -> list[str]:
        """Return the text of each prompt for an answer that begins with its prompt; empty texts for any other."""
        if isinstance(body, ChatRequest):
            return [""]
        prompts = [p if isinstance(p, str) or not body.echo else self._tokenizer.decode(p) for p in body.prompt]
        return [str(prompt) if body.echo else "" for prompt in prompts]
