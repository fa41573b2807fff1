"""Tasks that answer in one forward pass, without data: for tests of models, adapters and exports."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from support.tiny_tasks import Family, build_task_model
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.tasks.one_pass import OnePassTask

SPEC = SimpleNamespace(training=SimpleNamespace(seed=3, max_length=64))
LABELS = {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}


class _Task(OnePassTask):
    """What tests need of a task."""

    def head_settings(self, facts: Any) -> dict[str, Any]:
        return dict(facts)

    def served_settings(self, spec: Any, facts: Any) -> dict[str, Any]:
        return {"task": self.name, "maxLength": 64}

    encoder = collator = loss_sum = target_count = evaluate = None  # type: ignore[assignment]


class Rows(_Task):
    """Classifies rows."""

    name = "sequenceClassification"
    auto_class = "AutoModelForSequenceClassification"
    adapter_task_type = "SEQ_CLS"
    takes_decoders = True


class Tokens(_Task):
    """Classifies tokens."""

    name = "tokenClassification"
    auto_class = "AutoModelForTokenClassification"
    adapter_task_type = "TOKEN_CLS"
    per_token = True


class Answers(_Task):
    """Finds answers."""

    name = "questionAnswering"
    auto_class = "AutoModelForQuestionAnswering"
    adapter_task_type = "QUESTION_ANS"
    output_names = ("start_logits", "end_logits")
    per_token = True

    def token_types(self, ids: Any, config: Any) -> list[int]:
        return [int(place > len(ids) // 2) for place in range(len(ids))]


def tuned_model(
    folder: Path, family: Family, task: OnePassTask, facts: dict[str, Any] | None = None, **options: Any
) -> Path:
    """Save a tiny model with a task's head, which is not as it began: its biases are not zero."""
    import torch
    from safetensors.torch import save_file

    from tunesmith_trainer.models.weights import WeightFiles

    base = build_task_model(folder / "base", family, **options)
    chosen = ({} if isinstance(task, Answers) else LABELS) if facts is None else facts
    model = task.complete_model(base, folder / "with-head", chosen, SPEC)  # type: ignore[arg-type]
    files = WeightFiles(model)
    generator = torch.Generator().manual_seed(5)
    tensors = {
        name: files[name] + torch.randn(files.shape(name), generator=generator).to(files[name].dtype) * 0.05
        for name in files.names()
    }
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    return model


def rows_of(folder: Path, tokenizer_size: int = 100, count: int = 24, longest: int = 60) -> TokenStore:
    """Write rows of differing lengths, from one token on."""
    generator = np.random.default_rng(0)
    lengths = [1, longest, *generator.integers(2, longest, count - 2)]
    rows = [generator.integers(5, tokenizer_size, length).tolist() for length in lengths]
    return TokenStore.write(folder, [(row, [1] * len(row)) for row in rows])
