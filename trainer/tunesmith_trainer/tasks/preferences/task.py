"""Text generation with `objective: dpo`: a model learns which of two answers is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith_api.choices.speed import PackingFacts
from tunesmith_api.spec import DatasetFormat, DpoSpec, ParitySpec, Precision, TrainingJobSpec
from tunesmith_trainer.data.formats import Formats
from tunesmith_trainer.data.preferences import PREFERENCE_FORMATS
from tunesmith_trainer.data.targets import Facts
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.validation import EXAMPLES
from tunesmith_trainer.tasks.base import Numbers, ValidationSet
from tunesmith_trainer.tasks.text_generation import TextGeneration, whole_answers

if TYPE_CHECKING:
    import torch

    from tunesmith_trainer.tasks.preferences.loss import Comparison


class PreferenceTuning(TextGeneration):
    """Trains on pairs of answers. In all else the model is one that generates text."""

    compares_with_start = True
    step_values = ("rewardAccuracy", "rewardMargin")

    def __init__(self, spec: DpoSpec) -> None:
        self._spec = spec
        self._sums: torch.Tensor | None = None

    def formats(self, spec: TrainingJobSpec) -> Formats:
        """Return the formats of pairs of answers."""
        return PREFERENCE_FORMATS

    def needs_chat_template(self, data_format: DatasetFormat) -> bool:
        """Return True: pairs are conversations."""
        return True

    def encoder(self, tokenizer: Any, spec: TrainingJobSpec, facts: Facts) -> Any:  # noqa: ANN401
        """Return the encoder of pairs."""
        from tunesmith_trainer.data.pairs import PairEncoder

        return PairEncoder(tokenizer, spec.training.max_length)

    def packing_facts(self, base: Path, longest: int) -> PackingFacts:
        """Return that the answers of a pair are kept apart."""
        return PackingFacts(inexact="pairs of answers are not packed")

    def make_fast(self, model: Any, *, packing: bool) -> None:  # noqa: ANN401
        """Let the model compute the loss of each answer in chunks."""
        from tunesmith_trainer.models.chunked_loss import can_compute_loss, compute_loss_in_forward

        if can_compute_loss(model):
            compute_loss_in_forward(model, by_row=True)

    def row_lengths(self, store: TokenStore) -> Any:  # noqa: ANN401
        """Return the tokens of each pair, of both answers together."""
        from tunesmith_trainer.tasks.preferences.batches import pair_lengths

        return pair_lengths(store)

    def dataset(self, store: TokenStore, order: Any) -> Any:  # noqa: ANN401
        """Return the pairs in an order, with their reference."""
        from tunesmith_trainer.tasks.preferences.batches import PairDataset

        return PairDataset(store, order)

    def collator(self, model: Any, multiple: int) -> Any:  # noqa: ANN401
        """Return the collator of pairs."""
        from tunesmith_trainer.tasks.preferences.batches import PairCollator

        return PairCollator(super().collator(model, multiple))

    def _logps(self, outputs: Any, labels: Mapping[str, torch.Tensor]) -> torch.Tensor:  # noqa: ANN401
        """Return the log-probabilities of the better and the worse answers, float [2, pairs]."""
        from tunesmith_trainer.models.loss import row_losses

        losses = row_losses(outputs.logits, labels["tokens"]) if outputs.loss is None else outputs.loss
        return -losses.unflatten(0, (2, -1))

    def reference(self, outputs: Any, labels: Mapping[str, torch.Tensor]) -> torch.Tensor:  # noqa: ANN401
        """Return the log-probabilities of the answers of each pair, float64 [pairs, 2]."""
        return self._logps(outputs, labels).T.double()

    def _compared(self, outputs: Any, labels: Mapping[str, torch.Tensor]) -> Comparison:  # noqa: ANN401
        import torch

        from tunesmith_trainer.models.loss import row_counts
        from tunesmith_trainer.tasks.preferences.loss import Comparison

        logps, tokens = self._logps(outputs, labels), row_counts(labels["tokens"]).unflatten(0, (2, -1))
        reference = labels["reference"].to(logps.device).view(torch.float64).T
        return Comparison.of(logps, reference, tokens.to(logps.device))

    def loss_sum(self, outputs: Any, labels: Any) -> Any:  # noqa: ANN401
        """Return the summed loss of the pairs; what `take_step_values` returns is added up on the way."""
        import torch

        compared = self._compared(outputs, labels)
        losses = compared.losses(self._spec)
        rows = torch.ones_like(losses, dtype=torch.float64)
        sums = torch.stack([*compared.rewards(self._spec), rows]).sum(1)
        self._sums = sums if self._sums is None else self._sums + sums
        return losses.sum()

    def take_step_values(self) -> Any:  # noqa: ANN401
        """Return the sums of reward accuracies and margins, and the number of pairs."""
        sums, self._sums = self._sums, None
        return sums

    def target_count(self, labels: Any) -> Any:  # noqa: ANN401
        """Return the number of pairs."""
        import torch

        return torch.tensor(len(labels["reference"]), device=labels["reference"].device)

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
        """Return the loss of the pairs, what the better answers are worth, and generated answers beside these."""
        from tunesmith_trainer.evaluate.evaluation import evaluate
        from tunesmith_trainer.tasks.preferences.evaluation import scores_of_pairs, with_rewards

        first, second = scores_of_pairs(model, data.store, rows, advance)
        result = evaluate(
            model,
            data.tokenizer,
            first,
            data.prompts,
            max_new_tokens=spec.evaluation.max_new_tokens,
            examples=whole_answers(spec, data, examples),
            advance=advance,
        )
        return with_rewards(result, self._spec, first, second, data.before)

    def record_reference(self, model: Any, data: ValidationSet, bounds: ParitySpec, folder: Path) -> None:  # noqa: ANN401
        """Write torch's logits of the better answers; see `TextGeneration`."""
        super().record_reference(model, _better(data), bounds, folder)

    def compare_layers(
        self, exported: Path, tuned: Path, precision: Precision, data: ValidationSet
    ) -> Mapping[str, float | int | str] | None:
        """Compare layer by layer on the better answers; see `TextGeneration`."""
        return super().compare_layers(exported, tuned, precision, _better(data))

    def compare_rendering(self, artifact: Path, precision: Precision, data: ValidationSet) -> Numbers:
        """Compare the tokens of the better answers with the server's; see `TextGeneration`."""
        return super().compare_rendering(artifact, precision, _better(data))

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
        """As `evaluate`, on the exported model and with the server's answers."""
        from tunesmith_api.artifact import onnx_folder
        from tunesmith_trainer.evaluate.evaluation import metrics_of
        from tunesmith_trainer.export.onnx_runner import OnnxModel
        from tunesmith_trainer.export.served import served_answers
        from tunesmith_trainer.tasks.preferences.evaluation import served_scores_of_pairs, with_rewards

        exported = OnnxModel(artifact / onnx_folder(precision.value))
        first, second = served_scores_of_pairs(exported, data.store, rows, advance)
        del exported
        limit = spec.evaluation.max_new_tokens
        answers = served_answers(artifact, precision, data.tokenizer, data.prompts, limit, advance)
        metrics = metrics_of(first, answers, data.prompts, whole_answers(spec, data, EXAMPLES))
        result = with_rewards({"metrics": metrics}, self._spec, first, second, data.before)
        return {"metrics": result["metrics"], "answers": answers}


def _better(data: ValidationSet) -> ValidationSet:
    """Return the data with the better answers alone."""
    return replace(data, store=TokenStore(data.store.tokens, data.store.mask, data.store.offsets))
