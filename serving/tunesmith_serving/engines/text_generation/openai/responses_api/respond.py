"""Answering `POST /v1/responses`, streamed or whole."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from tunesmith_serving.engines.text_generation.batching.types import TokenLogprob
from tunesmith_serving.engines.text_generation.openai.generate import Generator, Run
from tunesmith_serving.engines.text_generation.openai.responses import TokenBytes, chat_logprobs
from tunesmith_serving.engines.text_generation.openai.responses_api.items import Event, OutputItems
from tunesmith_serving.engines.text_generation.openai.responses_api.paths import named_as_given
from tunesmith_serving.engines.text_generation.openai.responses_api.request import read_request
from tunesmith_serving.engines.text_generation.openai.responses_api.response import ResponseObject
from tunesmith_serving.http.body import CLIENT_LEFT
from tunesmith_serving.http.sse import EventStream, sse_event


class Responder:
    """Answers requests by the generator of chats."""

    def __init__(self, generator: Generator, token_bytes: TokenBytes) -> None:
        self._generator = generator
        self._token_bytes = token_bytes

    async def respond(self, request: Request, data: dict[str, Any]) -> Response:
        """Return the response to one request.

        Raises:
            ApiError: The request cannot be answered.
        """
        arrived = time.perf_counter()
        given = read_request(data)
        chat = given.chat()
        with named_as_given([*(["instructions"] if given.instructions else []), *(turn.path for turn in given.input)]):
            run = await self._generator.start(chat, arrived)

        def write_logprobs(entries: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
            return chat_logprobs(entries, self._token_bytes) if given.with_logprobs else []

        response = ResponseObject(given, given.model)
        items = OutputItems(write_logprobs)
        if given.stream:
            return EventStream(self._stream(run, response, items, arrived), run.generation.cancel)
        answer = run.answers[0]
        if not await self._generator.finish(
            request, run, arrived, lambda _, deltas: items.add(deltas, answer.take_logprobs() if deltas else ())
        ):
            return Response(status_code=CLIENT_LEFT)
        is_whole = answer.finish_reason == "stop"
        items.finish(is_whole, answer.take_logprobs())
        return JSONResponse(response.ended(items.items, is_whole, run.usage()))

    async def _stream(
        self, run: Run, response: ResponseObject, items: OutputItems, arrived: float
    ) -> AsyncIterator[bytes]:
        number = 0

        def write(events: list[Event]) -> bytes:
            nonlocal number
            written = []
            for event in events:
                written.append(sse_event(event["type"], {**event, "sequence_number": number}))
                number += 1
            return b"".join(written)

        kinds = ("response.created", "response.in_progress")
        yield write([{"type": kind, "response": response.running()} for kind in kinds])
        answer = run.answers[0]
        async for batch in run.generation.batches():
            events: list[Event] = []
            for index, event in batch:
                deltas = run.add(index, event)
                if deltas:
                    events += items.add(deltas, answer.take_logprobs())
                if event.finish_reason == "error":
                    failed = response.failed(
                        items.items, event.error or "the generation failed", by_request=event.by_request
                    )
                    events.append({"type": "response.failed", "response": failed})
                elif event.finish_reason in ("stop", "length"):
                    is_whole = event.finish_reason == "stop"
                    events += items.finish(is_whole, answer.take_logprobs())
                    kind = "response.completed" if is_whole else "response.incomplete"
                    ended = response.ended(items.items, is_whole, run.usage())
                    events.append({"type": kind, "response": ended})
            if events:
                yield write(events)
        self._generator.finished(arrived)
