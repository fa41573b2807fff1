"""Translation by chat completions: the last message of the user is the source, the answer is its translation."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tunesmith_serving.engines.encoder_decoder.batching.types import SourceRequest
from tunesmith_serving.engines.encoder_decoder.text.source import LanguageError, SourceTokenizer
from tunesmith_serving.engines.text_generation.batching.types import SamplingParams
from tunesmith_serving.engines.text_generation.openai.encoding import LONG_TEXT
from tunesmith_serving.engines.text_generation.openai.messages import conversation
from tunesmith_serving.engines.text_generation.openai.schema import ChatRequest
from tunesmith_serving.engines.text_generation.openai.writing import Body, Written
from tunesmith_serving.http.errors import ApiError


class TranslationChat(ChatRequest):
    """`POST /v1/chat/completions` of a translation model, with the languages of Hugging Face's task API."""

    src_lang: str | None = None
    tgt_lang: str | None = None

    def params(self) -> SamplingParams:
        """Return the sampling parameters; without a temperature, the most likely token is taken."""
        params = super().params()
        return replace(params, temperature=0.0) if self.temperature is None else params


class SourceWriter:
    """Takes the source text from the messages."""

    def __init__(self, tokenizer: SourceTokenizer) -> None:
        self._tokenizer = tokenizer

    async def write(self, body: Body) -> list[Written]:
        """Return the source of a request.

        Raises:
            ApiError: The messages hold none, or the model does not know a language.
        """
        assert isinstance(body, TranslationChat)  # noqa: S101 - the only route parses into it
        if (found := body.output_grammar()) is not None:
            field = found[0]
            raise ApiError(
                400, f"{field}: this model translates; leave it out", param=field, code="unsupported_parameter"
            )
        text = source_of(body)
        try:
            if len(text) < LONG_TEXT:
                ids = self._tokenizer.source(text, body.src_lang)
            else:
                ids = await asyncio.to_thread(self._tokenizer.source, text, body.src_lang)
            first = self._tokenizer.first_token(body.tgt_lang)
        except LanguageError as error:
            name = error.parameter
            raise ApiError(400, f"{name}: {error}", param=name, code="invalid_value") from None
        except ValueError as error:
            raise ApiError(400, f"messages: {error}", param="messages", code="invalid_value") from None
        return [Written(SourceRequest(tuple(ids), body.params(), forced_bos=first))]


def source_of(body: ChatRequest) -> str:
    """Return the text to translate: the last message, which must be the user's. Earlier turns are not read.

    Raises:
        ApiError: There are instructions, or the last message is another's.
    """
    if body.tools:
        raise ApiError(
            400,
            "tools: this model translates and calls none; leave it out",
            param="tools",
            code="unsupported_parameter",
        )
    turns = conversation(body.messages)
    if any(turn["role"] == "system" for turn in turns):
        raise _wrong("this model translates and follows no instructions; leave out the system message")
    if not turns or turns[-1]["role"] != "user":
        raise _wrong("the last message must be the user's, with the text to translate as its content")
    source: str = turns[-1]["content"]
    return source


def _wrong(message: str) -> ApiError:
    return ApiError(400, f"messages: {message}", param="messages", code="invalid_value")
