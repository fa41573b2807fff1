"""Answering a checked request, streamed or whole."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from tunesmith_serving.engines.base import EngineFailedError
from tunesmith_serving.engines.text_generation.adapters.errors import UnknownAdapterError
from tunesmith_serving.engines.text_generation.batching.bridge import Bridge, Generation
from tunesmith_serving.engines.text_generation.batching.sampling import derive_seed
from tunesmith_serving.engines.text_generation.batching.types import (
    Batcher,
    DrainingError,
    Event,
    GenerationRequest,
    InvalidRequestError,
    PromptTooLongError,
    QueueFullError,
    TooManyRequestsError,
)
from tunesmith_serving.engines.text_generation.openai.responses import (
    DONE,
    Answer,
    ResponseBuilder,
    TokenBytes,
    usage,
)
from tunesmith_serving.engines.text_generation.openai.schema import ChatRequest, CompletionRequest
from tunesmith_serving.engines.text_generation.openai.timing import TokenMetrics, TokenTimer
from tunesmith_serving.engines.text_generation.openai.tools.answers import Delta
from tunesmith_serving.engines.text_generation.openai.writing import Writer
from tunesmith_serving.http.body import CLIENT_LEFT
from tunesmith_serving.http.context import ServerContext
from tunesmith_serving.http.errors import ApiError, server_error, unavailable
from tunesmith_serving.http.sse import EventStream, sse_data, wait_for_disconnect
from tunesmith_serving.runtime.retry import RetryEstimator


class Run:
    """A request that is being answered: its answers in order, prompt by prompt.

    Attributes:
        generation: Its events.
        answers: The answers, as they grow.
        echo: The text that each answer begins with.
        prompt_tokens: Tokens of its prompts.
        tokens: Tokens of its answers so far.
        cached_tokens: Tokens of its prompts that were not computed again.
    """

    def __init__(
        self,
        generation: Generation,
        timers: list[TokenTimer],
        answers: list[Answer],
        echo: list[str],
        prompt: int,
        count: int = 1,
    ) -> None:
        self.generation = generation
        self.answers = answers
        self.echo = echo
        self.prompt_tokens = prompt
        self.tokens = 0
        self.cached_tokens = 0
        self._timers = timers
        self._count = count

    def add(self, index: int, event: Event) -> list[Delta]:
        """Add an event of one of the answers; return what is new of it."""
        self._timers[index].record(event)
        self.tokens += len(event.token_ids)
        if index % self._count == 0:  # several answers to a prompt have it in common
            self.cached_tokens += event.cached_tokens
        return self.answers[index].add(event)

    def usage(self) -> dict[str, Any]:
        """Return `usage`."""
        return usage(self.prompt_tokens, self.tokens, self.cached_tokens)


class Generator:
    """Answers generation requests with one model."""

    def __init__(
        self,
        batcher: Batcher,
        writer: Writer,
        token_bytes: TokenBytes,
        context: ServerContext,
        metrics: TokenMetrics,
        retry: RetryEstimator,
    ) -> None:
        """Take what all requests share.

        Args:
            batcher: Generates the tokens.
            writer: Makes the prompts of a request.
            token_bytes: UTF-8 bytes of a token, for log probabilities.
            context: The server.
            metrics: Histograms of how fast tokens come.
            retry: How long clients should wait when the queue is full.
        """
        self._batcher = batcher
        self._writer = writer
        self._token_bytes = token_bytes
        self._context = context
        self._metrics = metrics
        self._retry = retry
        self._bridge = Bridge(batcher)

    async def respond(self, request: Request, body: ChatRequest | CompletionRequest) -> Response:
        """Return the response to one request.

        Raises:
            ApiError: The request cannot be answered.
        """
        arrived = time.perf_counter()
        run = await self.start(body, arrived)
        builder = ResponseBuilder(
            "chat" if isinstance(body, ChatRequest) else "text",
            body.model,
            self._token_bytes,
            body.params().logprobs is not None,
            run.echo,
        )
        if body.stream:
            return EventStream(self._stream(run, builder, arrived, body.include_usage), run.generation.cancel)
        if not await self.finish(request, run, arrived):
            return Response(status_code=CLIENT_LEFT)
        return JSONResponse(builder.whole(run.answers, run.usage()))

    async def start(self, body: ChatRequest | CompletionRequest, arrived: float) -> Run:
        """Submit a request that arrived at `time.perf_counter()` = `arrived`.

        Raises:
            ApiError: The request cannot be answered.
        """
        adapter = self._context.check_model(body.model)
        count = body.n or 1
        wanted = count * (len(body.prompt) if isinstance(body, CompletionRequest) else 1)
        if wanted > self._batcher.capacity:  # before anything is made for each of them
            raise _too_many(TooManyRequestsError(wanted, self._batcher.capacity), count, "prompt")
        written = await self._writer.write(body)
        prompts = [replace(prompt.request, adapter=adapter) for prompt in written]
        requests = [variant(prompt, index) for prompt in prompts for index in range(count)]
        generation = self._submit(requests, len(written), "messages" if isinstance(body, ChatRequest) else "prompt")
        timers = [self._metrics.timer(arrived) for _ in requests]
        plans = [prompt.tools for prompt in written for _ in range(count)]
        answers = [Answer(plan.parser()) if plan else Answer() for plan in plans]
        echo = [prompt.echo for prompt in written for _ in range(count)]
        tokens = sum(len(prompt.request.prompt_ids) for prompt in written)
        return Run(generation, timers, answers, echo, tokens, count)

    def _submit(self, requests: list[GenerationRequest], prompts: int, param: str) -> Generation:
        try:
            return self._bridge.submit(requests)
        except InvalidRequestError as error:
            field = param if error.field == "prompt" else error.field
            position = error.index * prompts // len(requests)
            where = f"{field}[{position}]" if field == "prompt" and prompts > 1 else field
            code = "context_length_exceeded" if isinstance(error, PromptTooLongError) else "invalid_value"
            raise ApiError(400, f"{where}: {error}", param=field, code=code) from None
        except TooManyRequestsError as error:
            raise _too_many(error, len(requests) // prompts, param) from None
        except UnknownAdapterError as error:
            self._context.check_model(error.name)  # it has just been removed
            raise unavailable(f"{error}; try again") from None
        except QueueFullError:
            stats = self._batcher.stats()
            wait = str(self._retry.retry_after(stats.queue_length, stats.slots))
            raise ApiError(
                429,
                f"{stats.load}; try again in {wait} s",
                type="rate_limit_error",
                code="queue_full",
                headers={"Retry-After": wait},
            ) from None
        except DrainingError:
            raise unavailable("the server is shutting down; try again") from None
        except EngineFailedError as error:
            raise server_error(str(error)) from None

    async def finish(
        self, request: Request, run: Run, arrived: float, take: Callable[[int, list[Delta]], object] | None = None
    ) -> bool:
        """Wait until a request has its answers; return whether the client has waited too.

        Args:
            request: The HTTP request.
            run: Its answers.
            arrived: When it arrived.
            take: Called with what is new of each answer.

        Raises:
            ApiError: The generation failed.
        """
        watcher = asyncio.create_task(wait_for_disconnect(request.receive))
        watcher.add_done_callback(lambda _: run.generation.cancel())
        try:
            async for events in run.generation.batches():
                for index, event in events:
                    deltas = run.add(index, event)
                    if take is not None:
                        take(index, deltas)
                    if event.finish_reason == "error":
                        run.generation.cancel()
        finally:
            watcher.cancel()
        self.finished(arrived)
        for answer in run.answers:
            if answer.finish_reason == "error":
                raise generation_error(answer)
        return all(answer.finish_reason not in (None, "cancelled") for answer in run.answers)

    def finished(self, arrived: float) -> None:
        """Count how long a request took, from which others learn how long they should wait."""
        self._retry.finished(time.perf_counter() - arrived)

    async def _stream(
        self, run: Run, builder: ResponseBuilder, arrived: float, include_usage: bool
    ) -> AsyncIterator[bytes]:
        if first := b"".join(builder.first_chunk(index) for index in range(run.generation.count)):
            yield first
        finished = 0
        async for events in run.generation.batches():
            chunks = []
            for index, event in events:
                deltas = run.add(index, event)
                if event.finish_reason == "error":
                    chunks.append(sse_data(generation_error(run.answers[index]).body))
                    run.generation.cancel()
                answer = run.answers[index]
                if deltas:
                    chunks += builder.chunks(index, deltas, answer.take_logprobs())
                if event.finish_reason in ("stop", "length"):
                    # Log probabilities of tokens that add no text come with the finish reason.
                    chunks.append(builder.chunk(index, "", answer.take_logprobs(), answer.reason))
                    finished += 1
            if finished == run.generation.count:
                chunks += [builder.usage_chunk(run.usage())] if include_usage else []
                chunks.append(DONE)
            if chunks:
                yield b"".join(chunks)
        self.finished(arrived)


def generation_error(answer: Answer) -> ApiError:
    """Return the error for an answer that could not be generated to its end."""
    if answer.by_request:
        return ApiError(400, answer.error or "", code="grammar_too_complex")
    return server_error(answer.error or "the generation failed")


def variant(request: GenerationRequest, index: int) -> GenerationRequest:
    """Return the request for one of several answers; the first is that of the only one."""
    if not index:
        return request
    return replace(request, sampling=replace(request.sampling, seed=derive_seed(request.sampling.seed, index)))


def _too_many(error: TooManyRequestsError, count: int, param: str) -> ApiError:
    """Return the error for more answers than are computed or wait at the same time, `count` of them to each prompt."""
    name = "n" if count > 1 else param
    return ApiError(400, f"{name}: {error}", param=name, code="invalid_value")
