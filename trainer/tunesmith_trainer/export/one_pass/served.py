"""What a task's server makes of validation rows, and what its exported model computes for their tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import onnx_folder
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import Precision
from tunesmith_trainer.evaluate.one_pass import Outputs, Rows
from tunesmith_trainer.export.one_pass.runner import OnnxModel
from tunesmith_trainer.export.replay import replay_inputs

_SHOWN = 8  # tokens shown around a difference


@dataclass(frozen=True)
class Asked:
    """What a server is asked about a row.

    Attributes:
        row: Index of the validation row.
        location: File and line.
        inputs: The input, as Hugging Face's task API has it.
        ids: Token ids that training has made of it; of several pieces the first.
    """

    row: int
    location: str
    inputs: Any
    ids: Sequence[int]


def served_answers(
    artifact: Path,
    precision: Precision,
    asked: Sequence[Asked],
    parameters: Mapping[str, Any],
    advance: Callable[[int], None],
) -> list[Any]:
    """Return the server's answers.

    Args:
        artifact: An artifact folder with the export.
        precision: The export.
        asked: The inputs.
        parameters: Parameters of the task, the same for all.
        advance: Called with the number of inputs just answered.

    Raises:
        StageError: PARITY_FAILED if the server refuses an input; EXPORT_FAILED if it cannot answer.
    """
    lines = [{"inputs": one.inputs, "parameters": dict(parameters), "generate": True} for one in asked]
    answers = replay_inputs(artifact, precision, lines, advance)
    for one, answer in zip(asked, answers, strict=True):
        _require(one, answer)
    return [answer["outputs"] for answer in answers]


def compare_inputs(artifact: Path, precision: Precision, asked: Sequence[Asked], tokenizer: Any) -> dict[str, int]:  # noqa: ANN401
    """Compare the server's token ids of inputs with those of training.

    Args:
        artifact: An artifact folder with the export.
        precision: The export whose tokenizer is used.
        asked: The inputs with their tokens.
        tokenizer: The model's tokenizer, to show differences.

    Returns:
        `rows` and `tokens` compared.

    Raises:
        StageError: PARITY_FAILED, with the first difference.
    """
    lines = [{"inputs": one.inputs, "generate": False} for one in asked]
    tokens = 0
    for one, answer in zip(asked, replay_inputs(artifact, precision, lines), strict=True):
        _require(one, answer)
        served, trained = list(answer["promptIds"]), list(one.ids)
        if served != trained:
            pairs = enumerate(zip(served, trained, strict=False))
            place = next((at for at, (a, b) in pairs if a != b), min(len(served), len(trained)))
            shown = [
                f"{ids[max(0, place - _SHOWN) : place + _SHOWN]} "
                f"{tokenizer.decode(ids[max(0, place - _SHOWN) : place + _SHOWN])!r}"
                for ids in (trained, served)
            ]
            raise StageError(
                Reason.PARITY_FAILED,
                f"{one.location} (validation row {one.row}): the server makes other tokens of the row than training "
                f"saw, from token {place} on: training {shown[0]}, the server {shown[1]}",
                "Save the model's tokenizer again with tokenizer.json, so that transformers and tokenizers agree",
            )
        tokens += len(served)
    return {"rows": len(asked), "tokens": tokens}


def _require(one: Asked, answer: Mapping[str, Any]) -> None:
    """Fail if the server has refused an input."""
    if "error" in answer:
        raise StageError(
            Reason.PARITY_FAILED,
            f"{one.location} (validation row {one.row}): the server refuses what training accepted: {answer['error']}",
            "Change the row",
        )


def onnx_outputs(
    artifact: Path,
    precision: Precision,
    rows: Rows,
    inputs: Callable[[Rows, Any], Mapping[str, Any]],
    names: Sequence[str],
    *,
    per_token: bool,
) -> Iterator[tuple[int, Outputs]]:
    """Yield the index of each row with what an exported model computes for it, as `evaluate.one_pass.outputs_of`.

    Args:
        artifact: An artifact folder with the export.
        precision: The export.
        rows: Token ids of each row.
        inputs: Returns the model's inputs for rows and a configuration, tensors [rows, width].
        names: Names of the outputs.
        per_token: Whether the outputs have a value for each token.
    """
    from transformers import AutoConfig

    folder = artifact / onnx_folder(precision.value)
    model, config = OnnxModel(folder), AutoConfig.from_pretrained(folder, local_files_only=True)
    for index, row in enumerate(rows):
        found = model.run({name: value.numpy() for name, value in inputs([row], config).items()}, names)
        yield index, tuple(value[0, : len(row)] if per_token else value[0] for value in found)
