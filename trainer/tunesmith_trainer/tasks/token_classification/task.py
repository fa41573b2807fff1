"""Token classification: a model learns the label of each word, and with them entities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith_api.artifact import onnx_folder
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import Precision, TrainingJobSpec
from tunesmith_trainer.data.encode import Encoded
from tunesmith_trainer.data.formats import Formats
from tunesmith_trainer.data.targets import Facts, Targets
from tunesmith_trainer.tasks.base import Numbers, ValidationSet
from tunesmith_trainer.tasks.one_pass import OnePassTask
from tunesmith_trainer.tasks.token_classification.encoder import TagEncoder
from tunesmith_trainer.tasks.token_classification.prompts import evaluation_line, read_tag_prompts
from tunesmith_trainer.tasks.token_classification.rows import FORMATS
from tunesmith_trainer.tasks.token_classification.targets import TagTargets

if TYPE_CHECKING:
    from tunesmith_trainer.evaluate.one_pass import OutputsOf

_OF_ENTITIES = ("f1", "precision", "recall")


class TokenClassification(OnePassTask):
    """Trains encoders of transformers with a head that labels each token."""

    name = "tokenClassification"
    adapter_task_type = "TOKEN_CLS"
    auto_class = "AutoModelForTokenClassification"
    per_token = True
    has_replay = True

    def formats(self, spec: TrainingJobSpec) -> Formats:
        """Return words with tags, and texts with spans."""
        return FORMATS

    def targets(self, spec: TrainingJobSpec) -> Targets:
        """Return the collector of labels."""
        return TagTargets()

    def check_gates(self, spec: TrainingJobSpec, facts: Facts) -> None:
        """Fail if a gate is on entities, and the tags mark none."""
        for gate in spec.evaluation.gates:
            if facts.get("scheme") == "plain" and gate.metric in _OF_ENTITIES:
                raise StageError(
                    Reason.INVALID_SPEC,
                    f"spec.evaluation.gates: {gate.metric} is of entities, and the tags "
                    f"({', '.join(facts['labels'][:5])}, ...) mark none: they have no B- and I-",
                    "Use a gate on accuracy or evalLoss",
                )

    def head_settings(self, facts: Facts) -> dict[str, Any]:
        """Return the names of the labels, `O` first."""
        names = {str(number): label for number, label in enumerate(facts["labels"])}
        return {"id2label": names, "label2id": {label: int(number) for number, label in names.items()}}

    def encoder(self, tokenizer: Any, spec: TrainingJobSpec, facts: Facts) -> TagEncoder:  # noqa: ANN401
        """Return the encoder of words and texts."""
        return TagEncoder(tokenizer, self.longest_row(spec, facts), facts["labels"])

    def evaluation_line(self, encoder: Any, piece: Encoded, index: int, is_first_piece: bool) -> dict[str, Any] | None:  # noqa: ANN401
        """Return the row with its tags or entities."""
        return evaluation_line(piece, index, is_first_piece)

    def read_prompts(self, path: Path, limit: int) -> list[Any]:
        """Return the first validation rows."""
        return list(read_tag_prompts(path, limit))

    def shown_prompt(self, prompt: Any, tokenizer: Any) -> Any:  # noqa: ANN401
        """Return the text, or the words."""
        return prompt.inputs if isinstance(prompt.inputs, str) else " ".join(prompt.inputs["tokens"])

    def collator(self, model: Any, multiple: int) -> Any:  # noqa: ANN401
        """Return the collator, with a label for each token."""
        from tunesmith_trainer.tasks.token_classification.collate import TagCollator

        return TagCollator(partial(self.inputs, config=model.config, multiple=multiple))

    def evaluate(
        self,
        model: Any,  # noqa: ANN401
        data: ValidationSet,
        spec: TrainingJobSpec,
        *,
        rows: int,
        examples: int,
        advance: Callable[[int], None],
    ) -> dict[str, Any]:
        """Return loss, accuracy, and the metrics of entities."""
        from tunesmith_trainer.models.widening import arithmetic_of

        found = self._evaluated(self.outputs_of(model), model.config, data, rows, advance)
        advance(len(data.prompts))
        return {**found, "computedIn": arithmetic_of(model)}

    def _evaluated(
        self,
        outputs: OutputsOf,
        config: Any,  # noqa: ANN401
        data: ValidationSet,
        rows: int,
        advance: Callable[[int], None],
    ) -> dict[str, Any]:
        from tunesmith_trainer.tasks.token_classification.evaluate import evaluate_tags

        labels = {int(number): str(label) for number, label in config.id2label.items()}
        return evaluate_tags(outputs, labels, data.tokenizer, data.store, data.prompts, rows=rows, advance=advance)

    def compare_rendering(self, artifact: Path, precision: Precision, data: ValidationSet) -> Numbers:
        """Compare the tokens of the first rows with those that the server makes of them."""
        from tunesmith_trainer.export.one_pass.served import compare_inputs
        from tunesmith_trainer.export.rendering import MAX_ROWS
        from tunesmith_trainer.tasks.token_classification.served import asked_of

        # A server does not know the entities, between which long texts are cut.
        whole = [prompt for prompt in data.prompts if prompt.pieces == 1 or not isinstance(prompt.inputs, str)]
        return compare_inputs(artifact, precision, [asked_of(prompt) for prompt in whole[:MAX_ROWS]], data.tokenizer)

    def evaluate_served(
        self,
        artifact: Path,
        precision: Precision,
        data: ValidationSet,
        spec: TrainingJobSpec,
        *,
        rows: int,
        advance: Callable[[int], None],
    ) -> dict[str, Any]:
        """Return the loss of the exported model, and the metrics of the server's answers."""
        from transformers import AutoConfig

        from tunesmith_trainer.tasks.token_classification.served import evaluate_served_tags

        config = AutoConfig.from_pretrained(artifact / onnx_folder(precision.value), local_files_only=True)
        outputs = self.served_outputs_of(artifact, precision)
        found = self._evaluated(outputs, config, data, rows, advance)
        return evaluate_served_tags(artifact, precision, data.prompts, found["metrics"]["evalLoss"], advance)

    def evaluation_fields(self, results: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return precision, recall and F1 of each kind of entity."""
        return {"entities": {when: result["entities"] for when, result in results.items() if result.get("entities")}}
