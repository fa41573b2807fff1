"""Answering a checked request, streamed or whole."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from tunesmith_serving.engines.base import EngineFailedError
from tunesmith_serving.engines.text_generation.batching.types import (
    Batcher,
    DrainingError,
    Event,
    GenerationRequest,
    PromptTooLongError,
    QueueFullError,
    SamplingParams,
    TokenLogprob,
)
from tunesmith_serving.engines.text_generation.openai.bridge import Bridge, Generation
from tunesmith_serving.engines.text_generation.openai.prompt import (
    PromptEncoder,
    PromptError,
    Template,
    make_prompt,
)
from tunesmith_serving.engines.text_generation.openai.responses import DONE, ResponseBuilder, usage
from tunesmith_serving.engines.text_generation.openai.schema import ChatRequest, CompletionRequest
from tunesmith_serving.engines.text_generation.openai.timing import TokenMetrics, TokenTimer
from tunesmith_serving.http.context import ServerContext
from tunesmith_serving.http.errors import ApiError, server_error, unavailable
from tunesmith_serving.http.retry import RetryEstimator
from tunesmith_serving.http.sse import EventStream, sse_data, wait_for_disconnect

# Longer texts are encoded on another thread, so that they do not block other streams.
LONG_TEXT = 20_000


class TextEncoder(PromptEncoder, Protocol):
    """The tokenizer as the API uses it."""

    def token_bytes(self, token_id: int) -> bytes:
        """Return the UTF-8 bytes of a token."""


class Generator:
    """Answers generation requests with one model."""

    def __init__(
        self, batcher: Batcher, tokenizer: TextEncoder, template: Template | None, context: ServerContext
    ) -> None:
        self._batcher = batcher
        self._tokenizer = tokenizer
        self._template = template
        self._model_name = context.model_name
        self._metrics = TokenMetrics(context.metrics)
        self._retry = RetryEstimator()
        self._bridge = Bridge(batcher)

    async def respond(self, request: Request, body: ChatRequest | CompletionRequest) -> Response:
        """Return the response to one request.

        Raises:
            ApiError: The request cannot be answered.
        """
        timer = self._metrics.timer()
        if body.model != self._model_name:
            raise ApiError(
                404,
                f"the model {body.model!r} does not exist; this server serves {self._model_name!r}",
                param="model",
                code="model_not_found",
            )
        kind = "messages" if isinstance(body, ChatRequest) else "prompt"
        prompt = await self._prompt(body, kind)
        params = body.params()
        builder = ResponseBuilder(
            "chat" if isinstance(body, ChatRequest) else "text",
            self._model_name,
            self._tokenizer.token_bytes,
            params.logprobs is not None,
        )
        generation = self._submit(prompt, params, kind)
        if body.stream:
            chunks = self._stream(builder, generation, timer, len(prompt), body.include_usage)
            return EventStream(chunks, generation.cancel)
        return await self._whole(request, builder, generation, timer, len(prompt))

    async def _prompt(self, body: ChatRequest | CompletionRequest, param: str) -> tuple[int, ...]:
        try:
            prompt = make_prompt(body, self._template)
            if prompt.text is None or len(prompt.text) < LONG_TEXT:
                return prompt.encode(self._tokenizer)
            return await asyncio.to_thread(prompt.encode, self._tokenizer)
        except PromptError as error:
            text = f"{param}: {error}" if error.code == "invalid_value" else str(error)
            raise ApiError(400, text, param=param, code=error.code) from None

    def _submit(self, prompt: tuple[int, ...], params: SamplingParams, param: str) -> Generation:
        try:
            return self._bridge.submit(GenerationRequest(prompt, params))
        except PromptTooLongError as error:
            raise ApiError(400, str(error), param=param, code="context_length_exceeded") from None
        except QueueFullError:
            stats = self._batcher.stats()
            wait = str(self._retry.retry_after(stats.queue_length, stats.slots))
            raise ApiError(
                429,
                f"all {stats.slots} slots are in use and {stats.queue_length} requests wait; try again in {wait} s",
                type="rate_limit_error",
                code="queue_full",
                headers={"Retry-After": wait},
            ) from None
        except DrainingError:
            raise unavailable("the server is shutting down; try again") from None
        except EngineFailedError as error:
            raise server_error(str(error)) from None
        except ValueError as error:
            raise ApiError(400, f"{param}: {error}", param=param, code="invalid_value") from None

    async def _whole(
        self, request: Request, builder: ResponseBuilder, generation: Generation, timer: TokenTimer, prompt_tokens: int
    ) -> Response:
        watcher = asyncio.create_task(wait_for_disconnect(request.receive))
        watcher.add_done_callback(lambda _: generation.cancel())
        texts: list[str] = []
        logprobs: list[TokenLogprob] = []
        tokens = 0
        last = Event("")
        try:
            async for events in generation.batches():
                for last in events:
                    timer.record(last)
                    texts.append(last.text)
                    logprobs.extend(last.logprobs)
                    tokens += len(last.token_ids)
        finally:
            watcher.cancel()
        self._retry.finished(timer.elapsed)
        if last.finish_reason == "error":
            raise server_error(last.error or "the generation failed")
        if last.finish_reason is None or last.finish_reason == "cancelled":
            return Response(status_code=499)  # the client has disconnected; nobody reads this
        return JSONResponse(builder.whole("".join(texts), logprobs, last.finish_reason, usage(prompt_tokens, tokens)))

    async def _stream(
        self,
        builder: ResponseBuilder,
        generation: Generation,
        timer: TokenTimer,
        prompt_tokens: int,
        include_usage: bool,
    ) -> AsyncIterator[bytes]:
        if builder.kind == "chat":
            yield builder.role_chunk()
        tokens = 0
        async for events in generation.batches():
            chunks = []
            for event in events:
                timer.record(event)
                tokens += len(event.token_ids)
                if event.finish_reason == "error":
                    chunks.append(sse_data(server_error(event.error or "the generation failed").body))
                elif event.text:
                    chunks.append(builder.chunk(event.text, event.logprobs, None))
                if event.finish_reason in ("stop", "length"):
                    # Log probabilities of tokens that add no text come with the finish reason.
                    chunks.append(builder.chunk("", () if event.text else event.logprobs, event.finish_reason))
                    if include_usage:
                        chunks.append(builder.usage_chunk(usage(prompt_tokens, tokens)))
                    chunks.append(DONE)
            if chunks:
                yield b"".join(chunks)
        self._retry.finished(timer.elapsed)
