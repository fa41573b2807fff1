"""Sequence classification: a model learns the class, the classes or the number that belongs to a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tunesmith_api.spec import Precision, TrainingJobSpec
from tunesmith_trainer.data.encode import Encoded
from tunesmith_trainer.data.formats import Formats
from tunesmith_trainer.data.targets import Facts, Targets
from tunesmith_trainer.storage.files import write_atomic
from tunesmith_trainer.tasks.base import Numbers, ValidationSet
from tunesmith_trainer.tasks.one_pass import OnePassTask
from tunesmith_trainer.tasks.sequence_classification.confusion import confusion_svg
from tunesmith_trainer.tasks.sequence_classification.encoder import LabelEncoder
from tunesmith_trainer.tasks.sequence_classification.problem import require_metrics
from tunesmith_trainer.tasks.sequence_classification.prompts import evaluation_line, read_label_prompts
from tunesmith_trainer.tasks.sequence_classification.rows import FORMATS
from tunesmith_trainer.tasks.sequence_classification.targets import LabelTargets

CONFUSION = "confusion.svg"
"""The picture of the confusion matrix in the artifact."""


class SequenceClassification(OnePassTask):
    """Trains encoders and decoders of transformers with a head that classifies a text."""

    name = "sequenceClassification"
    adapter_task_type = "SEQ_CLS"
    auto_class = "AutoModelForSequenceClassification"
    takes_decoders = True
    has_replay = True

    def formats(self, spec: TrainingJobSpec) -> Formats:
        """Return texts with several labels, and with one."""
        return FORMATS

    def targets(self, spec: TrainingJobSpec) -> Targets:
        """Return the collector of labels."""
        return LabelTargets(spec)

    def check_gates(self, spec: TrainingJobSpec, facts: Facts) -> None:
        """Fail if a gate is on a metric of classes and the labels are numbers, or the other way round."""
        require_metrics(spec, facts["problemType"])

    def settled_facts(
        self,
        facts: Facts,
        config: Mapping[str, Any],
        tokenizer: Any,  # noqa: ANN401
        spec: TrainingJobSpec,
    ) -> Facts:
        """Return the facts with the longest row, and with the base model's order of classes if it has the same."""
        facts = super().settled_facts(facts, config, tokenizer, spec)
        given = config.get("id2label") or {}
        names = [str(given[number]) for number in sorted(given, key=int)]
        labels = facts.get("labels", [])
        if names == labels or sorted(names) != sorted(labels):
            return facts
        order = [labels.index(name) for name in names]
        lists = ("labels", "rows", "classWeights")
        return {**facts, **{name: [facts[name][place] for place in order] for name in lists if name in facts}}

    def head_settings(self, facts: Facts) -> dict[str, Any]:
        """Return the names of the classes and the kind of the problem; a regression has a single output."""
        labels = facts.get("labels", ["LABEL_0"])  # as transformers calls a single output
        return {
            "id2label": {str(number): label for number, label in enumerate(labels)},
            "label2id": {label: number for number, label in enumerate(labels)},
            "problem_type": facts["problemType"],
        }

    def served_settings(self, spec: TrainingJobSpec, facts: Facts) -> dict[str, Any]:
        """Return the content of task.json, with the kind of the problem."""
        return {**super().served_settings(spec, facts), "problemType": facts["problemType"]}

    def token_types(self, ids: Sequence[int], config: Any) -> list[int]:  # noqa: ANN401
        """Return 1 for what follows the first token that ends a text, else 0.

        Rows of the store have their own types, see `LabelCollator`; only where tokens are all that is known is it told
        by the token that is last.
        """
        first = list(ids).index(ids[-1]) + 1 if len(ids) else 0
        return [int(place >= first) for place in range(len(ids))]

    def encoder(self, tokenizer: Any, spec: TrainingJobSpec, facts: Facts) -> LabelEncoder:  # noqa: ANN401
        """Return the encoder of texts with labels."""
        return LabelEncoder(tokenizer, self.longest_row(spec, facts), facts)

    def evaluation_line(self, encoder: Any, piece: Encoded, index: int, is_first_piece: bool) -> dict[str, Any] | None:  # noqa: ANN401
        """Return the texts and the labels."""
        return evaluation_line(piece, index, encoder.facts["problemType"])

    def read_prompts(self, path: Path, limit: int) -> list[Any]:
        """Return the first validation rows."""
        return list(read_label_prompts(path, limit))

    def shown_prompt(self, prompt: Any, tokenizer: Any) -> Any:  # noqa: ANN401
        """Return the text, or both."""
        return prompt.inputs

    def shown_first(self, after: Mapping[str, Any]) -> Sequence[int]:
        """Return the rows with the highest losses first."""
        answers = after["answers"]
        return sorted(range(len(answers)), key=lambda index: -float(answers[index]["loss"]))

    def collator(self, model: Any, multiple: int) -> Any:  # noqa: ANN401
        """Return the collator."""
        from tunesmith_trainer.tasks.sequence_classification.collate import LabelCollator

        config = model.config
        inputs = partial(self.inputs, config=config, multiple=multiple)
        return LabelCollator(inputs, config.problem_type, config.num_labels)

    def loss_sum(self, outputs: Any, labels: Any) -> Any:  # noqa: ANN401
        """Return the weighted loss of transformers for the kind of problem, summed over the targets."""
        from tunesmith_trainer.tasks.sequence_classification.collate import label_loss

        return label_loss(outputs.logits, labels)

    def target_count(self, labels: Any) -> Any:  # noqa: ANN401
        """Return the sum of the weights of the targets."""
        from tunesmith_trainer.tasks.sequence_classification.collate import label_weight

        return label_weight(labels)

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
        """Return loss, accuracy and F1 of classes, or squared error and rank correlation of numbers."""
        from tunesmith_trainer.tasks.sequence_classification.evaluate import evaluate_labels

        found = evaluate_labels(model, data.store, self.collator(model, 1), rows=rows, advance=advance)
        advance(len(data.prompts))
        return {**found, "answers": found["answers"] if data.prompts else []}

    def compare_rendering(self, artifact: Path, precision: Precision, data: ValidationSet) -> Numbers:
        """Compare the tokens of the first rows with those that the server makes of them."""
        from tunesmith_trainer.export.one_pass.served import compare_inputs
        from tunesmith_trainer.export.rendering import MAX_ROWS
        from tunesmith_trainer.tasks.sequence_classification.served import asked_of

        return compare_inputs(artifact, precision, asked_of(data.prompts[:MAX_ROWS], data.store), data.tokenizer)

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
        """Return the metrics of the server's answers."""
        from tunesmith_trainer.tasks.sequence_classification.served import evaluate_served_labels

        outputs = self.served_outputs_of(artifact, precision)
        found = evaluate_served_labels(
            artifact, precision, data.store, data.prompts, outputs, rows=rows, advance=advance
        )
        advance(len(data.prompts))
        return found

    def evaluation_fields(self, results: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return the table of classes of each model, and what the tuned one confuses."""
        tables = {when: result["classes"] for when, result in results.items() if "classes" in result}
        found = results["after"].get("confusions")
        return {**({"classes": tables} if tables else {}), **({"confusions": found} if found else {})}

    def evaluation_files(self, folder: Path, results: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Path]:
        """Draw what the tuned model confuses."""
        pairs = results["after"].get("confusions")
        if not pairs:
            return {}
        rows = sum(pair["rows"] for pair in pairs)
        write_atomic(folder / CONFUSION, confusion_svg(pairs, f"{rows} validation rows").encode())
        return {CONFUSION: folder / CONFUSION}
