"""Replays inputs of tasks: the body of Hugging Face's task API in, its answer to one input out.

In int8 an answer depends a little on the other rows of its batch. Inputs are submitted many at once, so that each batch
holds the same rows in every run.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from pydantic import BaseModel, ConfigDict

from tunesmith_serving.engines.base import EngineFailedError
from tunesmith_serving.engines.predictor import InvalidInputError, Predictor

TOGETHER = 256
"""Inputs that are submitted at once."""


class InputLine(BaseModel):
    """One line.

    Attributes:
        inputs: One input of the task.
        parameters: Parameters of the task.
        generate: Whether an answer is wanted, or only the token ids.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    inputs: Any
    parameters: dict[str, Any] | None = None
    generate: bool = True


def replay_inputs(predictor: Predictor, lines: Sequence[InputLine], write: Callable[[str], None]) -> None:
    """Answer lines, in order.

    Args:
        predictor: The model, which takes `TOGETHER` inputs at once.
        lines: The lines.
        write: Called with the JSON line of each answer.
    """
    for start in range(0, len(lines), TOGETHER):
        for answer in _answers(predictor, lines[start : start + TOGETHER]):
            write(json.dumps(answer))


def _answers(predictor: Predictor, lines: Sequence[InputLine]) -> list[dict[str, Any]]:
    entries = [_tokens(predictor, line) for line in lines]
    wanted = [index for index, line in enumerate(lines) if line.generate and "error" not in entries[index]]
    for group in _of_same_parameters(lines, wanted):
        inputs = [lines[index].inputs for index in group]
        try:
            answers = asyncio.run(predictor.predict(inputs, lines[group[0]].parameters or {}))
        except EngineFailedError as error:
            for index in group:
                entries[index] = {"error": str(error)}
            continue
        for index, answer in zip(group, answers, strict=True):
            entries[index] = {"outputs": answer, **entries[index]}
    return entries


def _tokens(predictor: Predictor, line: InputLine) -> dict[str, Any]:
    try:
        return {"promptIds": predictor.prompt_ids(line.inputs, line.parameters or {})}
    except InvalidInputError as error:
        return {"error": str(error)}


def _of_same_parameters(lines: Sequence[InputLine], wanted: Sequence[int]) -> Iterator[list[int]]:
    """Yield the places of neighbouring lines with the same parameters."""
    for _, group in groupby(wanted, key=lambda index: json.dumps(lines[index].parameters, sort_keys=True)):
        yield list(group)
