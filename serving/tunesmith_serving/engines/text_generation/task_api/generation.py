"""Text generation in Hugging Face's task API, with the parameters and events of text-generation-inference."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tunesmith_serving.engines.base import EngineFailedError
from tunesmith_serving.engines.predictor import InvalidInputError, ModelCard
from tunesmith_serving.engines.text_generation.batching.bridge import Generation
from tunesmith_serving.engines.text_generation.batching.types import Batcher, GenerationRequest, TokenLogprob
from tunesmith_serving.engines.text_generation.task_api.grammar import AnswerGrammar
from tunesmith_serving.engines.text_generation.task_api.parameters import SamplingParameters, parse
from tunesmith_serving.engines.text_generation.task_api.predictor import (
    Collected,
    GenerationPredictor,
    Timer,
    TimerOf,
    text_of,
)
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer
from tunesmith_serving.runtime.retry import RetryEstimator

if TYPE_CHECKING:  # publish loads the engine where llguidance is not installed
    from tunesmith_serving.engines.text_generation.structured.compiler import GrammarCompiler

DEFAULT_NEW_TOKENS = 100
"""`max_new_tokens` of text-generation-inference where a request gives none."""


class TextParameters(SamplingParameters):
    """Parameters of text generation.

    Attributes:
        return_full_text: Whether the answer begins with the prompt.
        details: Whether the answer has its tokens, and why it has ended.
        truncate: The most tokens of the prompt; its beginning is cut off.
        adapter_id: Name of the adapter that answers.
        grammar: What the answer must be.
    """

    return_full_text: bool | None = None
    details: bool | None = None
    truncate: Annotated[int | None, Field(ge=1)] = None
    adapter_id: Annotated[str | None, Field(min_length=1)] = None
    grammar: AnswerGrammar | None = None


class TextPredictor(GenerationPredictor):
    """Continues texts."""

    def __init__(
        self,
        batcher: Batcher,
        card: ModelCard,
        tokenizer: Tokenizer,
        stop_token_ids: frozenset[int],
        compiler: GrammarCompiler,
        retry: RetryEstimator | None = None,
        timer: TimerOf | None = None,
    ) -> None:
        super().__init__(batcher, card, retry, timer)
        self._tokenizer = tokenizer
        self._stop_token_ids = stop_token_ids
        self._compiler = compiler

    async def requests(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[GenerationRequest]:
        """Return the request for each input, with what its answer must be; raises what the base class raises."""
        made = await super().requests(inputs, parameters)
        grammar = parse(TextParameters, parameters).grammar
        if grammar is None:
            return made
        constraint = await grammar.compiled(self._compiler)
        return [replace(request, constraint=constraint) for request in made]

    def request(self, value: Any, parameters: Mapping[str, Any], index: int = 0) -> GenerationRequest:  # noqa: ANN401
        """Return the request for a text.

        Raises:
            InvalidInputError: The text or a parameter is wrong.
        """
        given = parse(TextParameters, parameters)
        text = text_of(value, index)
        try:
            ids = tuple(self._tokenizer.encode(text, add_special_tokens=True))
        except ValueError as error:
            raise InvalidInputError(str(error), "inputs", index) from None
        if given.truncate is not None:
            ids = ids[-given.truncate :]
        sampling = given.sampling(DEFAULT_NEW_TOKENS, 0 if given.details else None)
        return GenerationRequest(ids, sampling, given.adapter_id, continues_text=True)

    def answer(self, value: Any, parameters: Mapping[str, Any], found: Collected) -> Any:  # noqa: ANN401 - JSON
        """Return `[{"generated_text"}]`, with `details` if they are asked for."""
        given = parse(TextParameters, parameters)
        answer: dict[str, Any] = {"generated_text": self._full(value, given, found)}
        if given.details:
            tokens = [
                self._token(entry, self._tokenizer.decode([entry.token_id], skip_special_tokens=False))
                for entry in found.logprobs
            ]
            answer["details"] = {**self._end(given, found), "prefill": [], "tokens": tokens}
        return [answer]

    async def stream(self, value: Any, parameters: Mapping[str, Any]) -> TextStream:  # noqa: ANN401 - JSON
        """Return the answer to one text as it comes; raises what `predict` raises."""
        arrived = time.perf_counter()
        given = parse(TextParameters, parameters)
        (request,) = await self.requests([value], parameters)
        request = replace(request, sampling=replace(request.sampling, logprobs=0))
        generation = self.submit([request])
        timer = self._timer(arrived) if self._timer else None
        return TextStream(generation, self._events(generation, timer, value, given, len(request.prompt_ids)))

    async def _events(
        self, generation: Generation, timer: Timer | None, value: str, given: TextParameters, prompt: int
    ) -> AsyncIterator[dict[str, Any]]:
        found = Collected()
        index = 0
        async for events in generation.batches():
            for _, event in events:
                try:
                    found.add(event)
                except InvalidInputError as error:
                    yield {"error": str(error), "error_type": "validation"}
                    return
                except EngineFailedError as error:
                    yield {"error": str(error), "error_type": "generation"}
                    return
                if timer is not None:
                    timer.record(event)
                if event.finish_reason == "cancelled":
                    return
                entries = [*event.logprobs]
                carrier = len(entries) - 1
                if event.finish_reason == "stop" and event.token_ids and event.token_ids[-1] in self._stop_token_ids:
                    entries.append(TokenLogprob(event.token_ids[-1], 0.0))
                for position, entry in enumerate(entries):
                    index += 1
                    # Characters may need several tokens: the last of them carries the text.
                    text = event.text if position == max(carrier, 0) else ""
                    chunk = {"index": index, "token": self._token(entry, text)}
                    ends = position == len(entries) - 1 and event.finish_reason is not None
                    full = self._full(value, given, found) if ends else None
                    details = {**self._end(given, found), "input_length": prompt} if ends else None
                    yield {**chunk, "generated_text": full, "details": details}

    def _full(self, value: str, given: TextParameters, found: Collected) -> str:
        return value + found.text if given.return_full_text else found.text

    def _token(self, entry: TokenLogprob, text: str) -> dict[str, Any]:
        special = entry.token_id in self._stop_token_ids
        return {"id": entry.token_id, "text": text, "logprob": max(entry.logprob, -9999.0), "special": special}

    def _end(self, given: TextParameters, found: Collected) -> dict[str, Any]:
        reason = "length"
        if found.finish_reason == "stop":
            ended = bool(found.token_ids) and found.token_ids[-1] in self._stop_token_ids
            reason = "eos_token" if ended else "stop_sequence"
        return {"finish_reason": reason, "generated_tokens": len(found.token_ids), "seed": given.seed}


class TextStream:
    """The events of one answer; `cancel` ends them early."""

    def __init__(self, generation: Generation, events: AsyncIterator[dict[str, Any]]) -> None:
        self.cancel = generation.cancel
        self.events = events
