"""From lines of requests to lines of answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tunesmith_serving.artifact.opening import Artifact, open_artifact
from tunesmith_serving.engines.predictor import Predictor
from tunesmith_serving.engines.text_generation.adapters.loading import load_trained, lora_base
from tunesmith_serving.engines.text_generation.adapters.weights import Adapter
from tunesmith_serving.engines.text_generation.batching.types import Completion, GenerationRequest
from tunesmith_serving.engines.text_generation.openai.prompt import PromptError
from tunesmith_serving.engines.text_generation.text.loading import load_text
from tunesmith_serving.replay.generate import Replayer
from tunesmith_serving.replay.requests import RequestLine, prompt_ids
from tunesmith_serving.runtime.config import ServingConfig
from tunesmith_serving.runtime.errors import ArtifactError, ServingError

Line = TypeVar("Line", bound=BaseModel)

_TASK = "textGeneration"
_ADAPTER_NAME = "adapter"
_SMALLEST_CONTEXT = 16
_LARGEST_CONTEXT = 1_048_576


def replay(
    folder: str,
    config: ServingConfig,
    now: Callable[[], datetime],
    lines: Iterable[bytes],
    write: Callable[[str], None],
    adapter: str | None = None,
) -> None:
    """Answer requests as the server of an artifact would.

    The model is loaded only if some request asks for an answer, with no more context than these requests need.

    Args:
        folder: The artifact.
        config: Precision, slots and threads.
        now: Returns the time for chat templates that write the date.
        lines: JSON lines of requests.
        write: Called with the JSON line of each answer, in order.
        adapter: Folder of a LoRA adapter, as peft saves it, that answers every request.

    Raises:
        ServingError: The artifact or the adapter cannot be served, or a line is not JSON.
    """
    artifact = open_artifact(folder, config.precision)
    loaded = None
    if adapter is not None:
        loaded = load_trained(Path(adapter), _ADAPTER_NAME, lora_base(artifact))
    if artifact.task != _TASK:
        _replay_task(artifact, config, lines, write)
        return
    tokenizer, template, _ = load_text(artifact, now)
    entries: list[dict[str, Any]] = []
    wanted: dict[int, GenerationRequest] = {}
    for entry in _read(RequestLine, lines):
        try:
            body = entry.body()
            ids = prompt_ids(body, tokenizer, template)
        except PromptError as error:
            entries.append({"error": str(error)})
            continue
        if entry.generate:
            wanted[len(entries)] = GenerationRequest(ids, body.params(), loaded.name if loaded else None)
        entries.append({"promptIds": list(ids)})
    answers = _generate(artifact, config, list(wanted.values()), loaded) if wanted else iter(())
    for index, found in enumerate(entries):
        write(json.dumps({**found, **_fields(next(answers))} if index in wanted else found))


def _read(kind: type[Line], lines: Iterable[bytes]) -> Iterator[Line]:
    """Yield the lines of the input.

    Raises:
        ServingError: A line is not one.
    """
    for number, line in enumerate(lines, 1):
        try:
            # Not pydantic's own parser: the server takes half a surrogate pair as JSON too, and refuses it later.
            yield kind.model_validate(json.loads(line))
        except ValidationError as error:
            raise ServingError(f"line {number} of the requests is invalid: {error.errors()[0]['msg']}") from None
        except ValueError as error:
            raise ServingError(f"line {number} of the requests is not JSON: {error}") from None


def _replay_task(
    artifact: Artifact, config: ServingConfig, lines: Iterable[bytes], write: Callable[[str], None]
) -> None:
    """Answer inputs of a task, of whatever length the model takes."""
    # Imported here: text generation needs none of it.
    from tunesmith_serving.engines.registry import load_engine
    from tunesmith_serving.replay.tasks import TOGETHER, InputLine, replay_inputs

    read = list(_read(InputLine, lines))
    sized = config.model_copy(update={"context_length": _LARGEST_CONTEXT, "max_queue_length": TOGETHER})
    engine = load_engine(artifact, sized)
    try:
        if not isinstance(engine, Predictor):
            raise ArtifactError(f"{artifact.folder} holds a model for the task {artifact.task!r}, without a replay")
        replay_inputs(engine, read, write)
    finally:
        engine.close()


def _generate(
    artifact: Artifact, config: ServingConfig, requests: Sequence[GenerationRequest], adapter: Adapter | None
) -> Iterator[Completion | str]:
    """Yield the answer of each request, or why there is none."""
    # Imported here: the token ids of prompts need no model.
    from tunesmith_serving.engines.text_generation.engine import TextGenerationEngine

    longest = max(len(r.prompt_ids) + (r.sampling.max_tokens or config.context_length) for r in requests)
    context = min(max(longest, _SMALLEST_CONTEXT), _LARGEST_CONTEXT)
    sized = config.model_copy(update={"context_length": context, "max_queue_length": config.max_batch_size})
    engine = TextGenerationEngine.load(artifact, sized)
    if adapter is not None:
        engine.adapters.add(adapter)
    try:
        yield from Replayer(engine.batcher, requests, sized.max_batch_size).answers()
    finally:
        engine.close()


def _fields(answer: Completion | str) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"error": answer}
    return {"text": answer.text, "tokenIds": list(answer.token_ids), "finishReason": answer.finish_reason}
