"""What an artifact says about its model: task.json and config.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.runtime.errors import ArtifactError

TASK_FILE = "task.json"
PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")
_SHORTEST = 8


@dataclass(frozen=True)
class Served:
    """What a server must know besides the model and the tokenizer.

    Attributes:
        max_length: The most tokens of a row.
        stride: Tokens that two windows of a long text share.
        labels: The classes by their number.
        problem_type: Of a sequenceClassification.
        pad: The token that rows are padded with.
    """

    max_length: int
    stride: int
    labels: tuple[str, ...]
    problem_type: str | None
    pad: int


def read_served(artifact: Artifact, context_length: int) -> Served:
    """Read what the artifact says.

    Args:
        artifact: The artifact.
        context_length: The most tokens that this server is to take.

    Raises:
        ArtifactError: A file is missing, or says what cannot be.
    """
    artifact.require(TASK_FILE, "config.json", "tokenizer.json", "tokenizer_config.json", "model.onnx")
    task, config = artifact.read_json(TASK_FILE), artifact.read_json("config.json")
    path = artifact.onnx / TASK_FILE
    length, stride = task.get("maxLength"), task.get("stride", 0)
    if type(length) is not int or length < _SHORTEST:
        raise ArtifactError(f"{path}: maxLength is {length!r}, not a number of tokens; export the model again")
    if type(stride) is not int or stride < 0:
        raise ArtifactError(f"{path}: stride is {stride!r}, not a number of tokens; export the model again")
    problem = task.get("problemType") or config.get("problem_type")
    if artifact.task == "sequenceClassification" and problem not in PROBLEMS:
        raise ArtifactError(f"{path}: problemType is {problem!r}, not one of {', '.join(PROBLEMS)}; export it again")
    pad = config.get("pad_token_id")
    return Served(
        max_length=min(length, context_length),
        stride=stride,
        labels=() if artifact.task == "questionAnswering" else _labels(artifact, config),
        problem_type=problem if artifact.task == "sequenceClassification" else None,
        pad=pad if type(pad) is int else 0,
    )


def _labels(artifact: Artifact, config: dict[str, Any]) -> tuple[str, ...]:
    given = config.get("id2label")
    if isinstance(given, dict) and given and all(isinstance(label, str) for label in given.values()):
        found = tuple(given.get(str(index)) for index in range(len(given)))
        if all(label is not None for label in found) and len(set(found)) == len(found):
            return tuple(str(label) for label in found)
    raise ArtifactError(
        f"{artifact.onnx / 'config.json'}: id2label must name the classes by the numbers from 0 on, each by a name of "
        "its own; export the model again"
    )
