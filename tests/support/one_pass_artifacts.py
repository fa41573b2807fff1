"""Artifacts of tasks that a model answers in one forward pass, exported by torch.onnx from tiny models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.tiny_models import write_manifest
from support.tiny_tasks import Family, build_task_model

HEADS = {
    "sequenceClassification": "ForSequenceClassification",
    "tokenClassification": "ForTokenClassification",
    "questionAnswering": "ForQuestionAnswering",
}
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def make_one_pass_artifact(
    folder: Path,
    task: str,
    family: Family = "bert",
    *,
    labels: Sequence[str] = (),
    problem: str = "single_label_classification",
    max_length: int = 64,
    texts: Sequence[str] | None = None,
    precisions: Sequence[str] = ("fp32",),
    **settings: Any,
) -> Path:
    """An artifact at `folder`; the transformers model that it was made from is at `folder`.hf.

    Args:
        folder: The artifact.
        task: The task.
        family: The family of the model.
        labels: Names of the classes.
        problem: The kind of classification.
        max_length: `maxLength` of the artifact.
        texts: What the tokenizer is trained on.
        precisions: fp32 and int8.
        settings: More fields of the model's configuration.
    """
    names = list(labels or (TAGS if task == "tokenClassification" else ("good", "bad", "so so")))
    head: dict[str, Any] = {}
    if task != "questionAnswering":
        head = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    if task == "sequenceClassification":
        head["problem_type"] = problem
    source = folder.with_name(folder.name + ".hf")
    build_task_model(source, family, HEADS[task], texts=texts, **head, **settings)
    for precision in precisions:
        export(source, folder / "onnx" / precision, task, problem, max_length, precision)
    return write_manifest(folder, task=task)


def export(source: Path, target: Path, task: str, problem: str, max_length: int, precision: str = "fp32") -> None:
    """Write one precision of a transformers model in the layout of an artifact."""
    import torch
    import transformers

    target.mkdir(parents=True)
    model = getattr(transformers, f"AutoModel{HEADS[task]}").from_pretrained(source, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    names = ["input_ids", "attention_mask"]
    if getattr(model.config, "type_vocab_size", 0) > 1:
        names.append("token_type_ids")
    outputs = ["start_logits", "end_logits"] if task == "questionAnswering" else ["logits"]
    per_token = task != "sequenceClassification"

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Any) -> Any:
            found = self.model(**dict(zip(names, given, strict=True)), return_dict=True)
            return tuple(getattr(found, name) for name in outputs)

    example = tuple(torch.ones((2, 7), dtype=torch.int64) for _ in names[:2])
    example += tuple(torch.zeros((2, 7), dtype=torch.int64) for _ in names[2:])
    axes = {name: {0: "batch", 1: "sequence"} for name in names}
    axes |= {name: {0: "batch", 1: "sequence"} if per_token else {0: "batch"} for name in outputs}
    plain = target / ("plain.onnx" if precision == "int8" else "model.onnx")
    torch.onnx.export(
        Wrapped().eval(), example, str(plain), input_names=names, output_names=outputs, dynamic_axes=axes,
        dynamo=False, opset_version=17,
    )  # fmt: skip
    if precision == "int8":
        from onnxruntime.quantization import quantize_dynamic

        quantize_dynamic(plain, target / "model.onnx")
        plain.unlink()
    model.config.save_pretrained(target)
    tokenizer.save_pretrained(target)
    served: dict[str, Any] = {"task": task, "maxLength": max_length}
    if task == "questionAnswering":
        served["stride"] = min(128, max_length // 4)
    if task == "sequenceClassification":
        served["problemType"] = problem
    (target / "task.json").write_text(json.dumps(served))
