"""From the tensors of a request to the inputs of a task, and from its answers to tensors."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tunesmith_serving.engines.predictor import ModelCard
from tunesmith_serving.http.errors import ApiError
from tunesmith_serving.protocols.kserve.binary import read_strings
from tunesmith_serving.protocols.kserve.schema import InputTensor

ANSWER = "output"
"""The output of every task: the answer of Hugging Face's task API as JSON."""


@dataclass(frozen=True)
class OutputTensor:
    """An output of a task.

    Attributes:
        name: Its name.
        datatype: The type of its elements.
        width: Elements of each answer; None for a tensor with one dimension.
        values: Returns the elements of an answer.
    """

    name: str
    datatype: str
    values: Callable[[Any], Sequence[object]]
    width: int | None = None

    def shape(self, rows: int) -> list[int]:
        """Return the shape for some answers; -1 stands for any number."""
        return [rows] if self.width is None else [rows, self.width]


def input_names(task: str) -> tuple[list[str], list[str]]:
    """Return the names of a task's input tensors: those that are needed, and those that may be left out."""
    if task == "questionAnswering":
        return ["question", "context"], []
    return ["text"], ["text_pair"] if task == "sequenceClassification" else []


def outputs_of(card: ModelCard) -> dict[str, OutputTensor]:
    """Return the outputs of a model by name."""
    found = [OutputTensor(ANSWER, "BYTES", lambda answer: [json.dumps(answer, ensure_ascii=False)])]
    if card.task == "sequenceClassification":
        found += [
            OutputTensor("label", "BYTES", lambda answer: [answer[0]["label"]]),
            OutputTensor("score", "FP32", lambda answer: [answer[0]["score"]]),
            OutputTensor("scores", "FP32", partial(_scores, card.labels), len(card.labels)),
        ]
    if card.task == "questionAnswering":
        found += [
            _field("answer", "BYTES", "answer"),
            _field("score", "FP32", "score"),
            _field("start", "INT64", "start"),
            _field("end", "INT64", "end"),
        ]
    if card.task == "translation":
        found.append(OutputTensor("translation_text", "BYTES", lambda answer: [answer[0]["translation_text"]]))
    if card.task == "textGeneration":
        # `text_output` as in the protocol's extension for generation.
        found += [
            OutputTensor(name, "BYTES", lambda answer: [answer[0]["generated_text"]])
            for name in ("generated_text", "text_output")
        ]
    return {output.name: output for output in found}


def _scores(labels: Sequence[str], answer: Any) -> list[object]:  # noqa: ANN401 - JSON
    """Return the scores of all classes, in the order of their numbers."""
    found = {entry["label"]: entry["score"] for entry in answer}
    if len(found) < len(labels):
        raise ApiError(400, "outputs.scores: has all classes; leave out top_k, or name other outputs")
    return [found[label] for label in labels]


def _field(name: str, datatype: str, key: str) -> OutputTensor:
    def values(answer: Any) -> list[object]:  # noqa: ANN401 - JSON
        first = answer[0] if isinstance(answer, list) else answer
        return [first[key]]

    return OutputTensor(name, datatype, values)


def inputs_of(task: str, tensors: Sequence[InputTensor], binary: bytes) -> list[Any]:
    """Return the task's inputs that the tensors of a request hold.

    Args:
        task: The task.
        tensors: The tensors.
        binary: What follows the JSON part of the body.

    Raises:
        ApiError: The tensors are not those of the task, or their data is wrong.
    """
    needed, optional = input_names(task)
    texts = _read(tensors, binary)
    if len(needed) == 1 and len(texts) == 1:
        # A model with one text takes it by any name: there is nothing else that it could be.
        texts = {needed[0]: next(iter(texts.values()))}
    if missing := [name for name in needed if name not in texts]:
        raise ApiError(400, f"inputs: the tensor {missing[0]} is missing; this model takes {', '.join(needed)}")
    if unknown := [name for name in texts if name not in (*needed, *optional)]:
        raise ApiError(400, f"inputs.{unknown[0]}: this model takes {', '.join((*needed, *optional))}")
    if len({len(values) for values in texts.values()}) > 1:
        raise ApiError(400, f"inputs: {' and '.join(texts)} have different numbers of elements")
    if list(texts) == ["text"]:
        return list(texts["text"])
    return [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)]


def _read(tensors: Sequence[InputTensor], binary: bytes) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    position = 0
    for tensor in tensors:
        name = tensor.name
        if name in texts:
            raise ApiError(400, f"inputs.{name}: there are two tensors of this name")
        if tensor.datatype != "BYTES":
            raise ApiError(400, f"inputs.{name}: must be a BYTES tensor of texts, not {tensor.datatype}")
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            texts[name] = _strings(tensor.data, name)
        else:
            if type(size) is not int or size < 0 or position + size > len(binary):
                raise ApiError(400, f"inputs.{name}: binary_data_size is {size}, which the body does not hold")
            texts[name] = read_strings(binary[position : position + size], name)
            position += size
        if len(texts[name]) != math.prod(tensor.shape) or not texts[name]:
            raise ApiError(400, f"inputs.{name}: has {len(texts[name])} elements, its shape is {tensor.shape}")
    if position != len(binary):
        raise ApiError(400, f"{len(binary) - position} bytes at the end of the body belong to no tensor")
    return texts


def _strings(data: list[Any] | None, name: str) -> list[str]:
    if data is None:
        raise ApiError(400, f"inputs.{name}: has no data")
    found: list[str] = []
    waiting = list(reversed(data))
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(reversed(value))
        elif isinstance(value, str):
            found.append(value)
        else:
            raise ApiError(400, f"inputs.{name}: element {len(found)} is not a string")
    return found


def metadata_of(card: ModelCard, name: str) -> Mapping[str, Any]:
    """Return the metadata of the model."""
    needed, optional = input_names(card.task)
    return {
        "name": name,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": given, "datatype": "BYTES", "shape": [-1]} for given in (*needed, *optional)],
        "outputs": [
            {"name": output.name, "datatype": output.datatype, "shape": output.shape(-1)}
            for output in outputs_of(card).values()
        ],
    }
