"""Text generation: a causal language model learns to continue texts and to answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tunesmith_api.local.imports import importing
from tunesmith_api.spec import DatasetFormat, ParitySpec, Precision, TrainingJobSpec
from tunesmith_trainer.export.architectures import EXPORTABLE, export_options
from tunesmith_trainer.export.exporter import Exporter
from tunesmith_trainer.export.expressible import find_problem
from tunesmith_trainer.models.checks import invalid
from tunesmith_trainer.tasks.base import ModelExporter, Numbers, Task, ValidationSet


class TextGeneration(Task):
    """Trains transformers' causal language models; exported by the generator's model builder."""

    name = "textGeneration"
    adapter_task_type = "CAUSAL_LM"

    @property
    def architectures(self) -> Collection[str]:
        """The architectures that the model builder exports rightly."""
        return EXPORTABLE

    def needs_chat_template(self, data_format: DatasetFormat) -> bool:
        """Return whether the rows are conversations."""
        return data_format is not DatasetFormat.TEXT

    def encoder(self, tokenizer: Any, spec: TrainingJobSpec) -> Any:  # noqa: ANN401
        """Return the encoder of conversations and texts."""
        from tunesmith_trainer.data.encode import Encoder

        return Encoder(tokenizer, spec.training.max_length, spec.training.loss_on)

    def load_base(self, folder: Path, dtype: str) -> Any:  # noqa: ANN401
        """Return the causal language model in a folder, on the CPU."""
        from tunesmith_trainer.models.loading import load_weights

        return load_weights(folder, dtype)

    def load_model(self, folder: Path) -> Any:  # noqa: ANN401
        """Return the causal language model in a folder, in fp32, ready for inference."""
        with importing():
            from tunesmith_trainer.models.loading import load_model

        return load_model(folder)

    def collator(self, model: Any, multiple: int) -> Any:  # noqa: ANN401
        """Return the collator, which asks for the targets' logits only if the model can compute these alone."""
        from tunesmith_trainer.data.collate import Collator
        from tunesmith_trainer.models.loading import takes_logits_to_keep

        return Collator(multiple, prune=takes_logits_to_keep(model))

    def loss_sum(self, outputs: Any, labels: Any) -> Any:  # noqa: ANN401
        """Return the summed cross-entropy of the target tokens, in nats."""
        from tunesmith_trainer.models.loss import loss_sum

        return loss_sum(outputs.logits, labels)

    def target_count(self, labels: Any) -> Any:  # noqa: ANN401
        """Return the number of target tokens."""
        from tunesmith_trainer.models.loss import target_count

        return target_count(labels)

    def evaluate(
        self,
        model: Any,  # noqa: ANN401
        data: ValidationSet,
        spec: TrainingJobSpec,
        *,
        rows: int,
        shown: int,
        advance: Callable[[int], None],
    ) -> dict[str, Any]:
        """Return loss and perplexity on the rows, and the exact match of generated answers."""
        from tunesmith_trainer.evaluate.evaluation import evaluate

        return evaluate(
            model,
            data.tokenizer,
            data.store,
            data.questions,
            rows=rows,
            max_new_tokens=spec.evaluation.max_new_tokens,
            shown=shown,
            advance=advance,
        )

    def check_configuration(self, config: Mapping[str, Any], name: str) -> None:
        """Fail if the export would not compute the same as transformers."""
        found = find_problem(config)
        if found:
            raise invalid(name, f"it cannot be exported: {found.problem}", found.remedy)

    def check_exportable(self, config: Mapping[str, Any]) -> None:
        """Fail if the model builder does not know the architecture."""
        export_options(config.get("architectures"))

    def exporter(self, log_file: Path) -> AbstractContextManager[ModelExporter]:
        """Return the model builder's process."""
        return Exporter(log_file)

    def compare(self, exported: Path, model: Any, data: ValidationSet, bounds: ParitySpec) -> Numbers:  # noqa: ANN401
        """Compare logits, greedy answers and perplexity."""
        from tunesmith_trainer.export.onnx_runner import OnnxModel
        from tunesmith_trainer.export.parity import Reference, measure

        prompts = [question.prompt_ids for question in data.questions]
        reference = Reference(model, data.store, prompts, bounds.rows)
        return measure(OnnxModel(exported), reference, bounds.max_logit_difference)

    def require_parity(self, precision: Precision, numbers: Numbers, bounds: ParitySpec) -> None:
        """Fail if the export is too far from the torch model."""
        from tunesmith_trainer.export.parity import require_parity

        require_parity(precision, dict(numbers), bounds)
