"""Tokenising prompts in the event loop, and errors of prompts as HTTP errors."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from tunesmith_serving.engines.text_generation.openai.prompt import Prompt, PromptEncoder, PromptError
from tunesmith_serving.http.errors import ApiError

# Longer texts are encoded on another thread, so that they do not block other streams.
LONG_TEXT = 20_000


class ApiTokenizer(PromptEncoder, Protocol):
    """The tokenizer as the API uses it."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Return the text of token ids."""

    def token(self, token_id: int) -> str:
        """Return a token as the vocabulary spells it; empty if there is no such token."""

    def token_bytes(self, token_id: int) -> bytes:
        """Return the UTF-8 bytes of a token."""

    def special_token_id(self, token: str) -> int | None:
        """Return the id of a special token, or None if there is no such one."""


@contextmanager
def prompt_errors(param: str) -> Iterator[None]:
    """Raise a PromptError as an ApiError that names the parameter."""
    try:
        yield
    except PromptError as error:
        message = f"{param}: {error}" if error.code == "invalid_value" else str(error)
        raise ApiError(400, message, param=param, code=error.code) from None


async def encode(prompt: Prompt, tokenizer: PromptEncoder) -> tuple[int, ...]:
    """Return the token ids of a prompt.

    Raises:
        PromptError: The text cannot be tokenised.
    """
    if prompt.text is None or len(prompt.text) < LONG_TEXT:
        return prompt.encode(tokenizer)
    return await asyncio.to_thread(prompt.encode, tokenizer)
