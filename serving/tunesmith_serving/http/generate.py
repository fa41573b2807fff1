"""From a checked request to its answer, streamed or whole."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from tunesmith_serving.engine.types import (
    DrainingError,
    EngineFailedError,
    Event,
    GenerationRequest,
    PromptTooLongError,
    QueueFullError,
    SamplingParams,
    TokenLogprob,
)
from tunesmith_serving.errors import TemplateError
from tunesmith_serving.http.answers import Answer, sse_data, usage
from tunesmith_serving.http.bridge import Bridge, Generation
from tunesmith_serving.http.errors import ApiError, server_error, unavailable
from tunesmith_serving.http.metrics import Metrics, TokenTimer
from tunesmith_serving.http.schema import ChatRequest, CompletionRequest
from tunesmith_serving.http.sse import DONE, EventStream, wait_for_disconnect
from tunesmith_serving.http.state import ServedModel, ServerState

# Longer texts are encoded off the event loop, so that other streams go on meanwhile.
LONG_TEXT = 20_000


class Generator:
    """Answers generation requests with one model."""

    def __init__(self, model: ServedModel, state: ServerState, metrics: Metrics) -> None:
        self._model = model
        self._state = state
        self._metrics = metrics
        self._bridge = Bridge(model.engine)

    async def answer(self, request: Request, body: ChatRequest | CompletionRequest) -> Response:
        """The response to one request.

        Raises:
            ApiError: The request cannot be answered.
        """
        timer = self._metrics.timer()
        if body.model != self._model.name:
            raise ApiError(
                404,
                f"there is no model {body.model!r} here; this server has {self._model.name!r}",
                param="model",
                code="model_not_found",
            )
        kind = "messages" if isinstance(body, ChatRequest) else "prompt"
        prompt = await self._prompt(body, kind)
        params = body.params()
        answer = Answer(
            "chat" if isinstance(body, ChatRequest) else "text",
            self._model.name,
            self._model.tokenizer.token_bytes,
            params.logprobs is not None,
        )
        generation = self._submit(prompt, params, kind)
        if body.stream:
            chunks = self._stream(answer, generation, timer, len(prompt), body.include_usage)
            return EventStream(chunks, generation.cancel)
        return await self._whole(request, answer, generation, timer, len(prompt))

    async def _prompt(self, body: ChatRequest | CompletionRequest, param: str) -> tuple[int, ...]:
        if isinstance(body, ChatRequest):
            if self._model.template is None:
                raise ApiError(400, "this model has no chat template; use /v1/completions", param="messages")
            try:
                text = self._model.template.render(body.conversation())
            except TemplateError as error:
                raise ApiError(400, str(error), param="messages", code="template_error") from None
        elif isinstance(body.prompt, list):
            return tuple(body.prompt)
        else:
            text = body.prompt
        # The chat template writes special tokens itself; a bare prompt gets those of the tokenizer.
        special = isinstance(body, CompletionRequest)
        encode = self._model.tokenizer.encode
        try:
            ids = encode(text, special) if len(text) < LONG_TEXT else await asyncio.to_thread(encode, text, special)
        except ValueError as error:
            raise ApiError(400, f"{param}: {error}", param=param, code="invalid_value") from None
        return tuple(ids)

    def _submit(self, prompt: tuple[int, ...], params: SamplingParams, param: str) -> Generation:
        try:
            return self._bridge.submit(GenerationRequest(prompt, params))
        except PromptTooLongError as error:
            raise ApiError(400, str(error), param=param, code="context_length_exceeded") from None
        except QueueFullError:
            stats = self._model.engine.stats()
            wait = str(self._state.retry_after(stats.queue_length, stats.slots))
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
        self, request: Request, answer: Answer, generation: Generation, timer: TokenTimer, prompt_tokens: int
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
        self._state.finished(timer.elapsed)
        if last.finish_reason == "error":
            raise server_error(last.error or "the generation failed")
        if last.finish_reason is None or last.finish_reason == "cancelled":
            return Response(status_code=499)  # the client has gone; nobody reads this
        return JSONResponse(answer.whole("".join(texts), logprobs, last.finish_reason, usage(prompt_tokens, tokens)))

    async def _stream(
        self, answer: Answer, generation: Generation, timer: TokenTimer, prompt_tokens: int, include_usage: bool
    ) -> AsyncIterator[bytes]:
        if answer.kind == "chat":
            yield answer.role_chunk()
        tokens = 0
        async for events in generation.batches():
            chunks = []
            for event in events:
                timer.record(event)
                tokens += len(event.token_ids)
                if event.finish_reason == "error":
                    chunks.append(sse_data(server_error(event.error or "the generation failed").body))
                elif event.text:
                    chunks.append(answer.chunk(event.text, event.logprobs, None))
                if event.finish_reason in ("stop", "length"):
                    # Logprobs of tokens without text of their own come with the end.
                    chunks.append(answer.chunk("", () if event.text else event.logprobs, event.finish_reason))
                    if include_usage:
                        chunks.append(answer.usage_chunk(usage(prompt_tokens, tokens)))
                    chunks.append(DONE)
            if chunks:
                yield b"".join(chunks)
        self._state.finished(timer.elapsed)
