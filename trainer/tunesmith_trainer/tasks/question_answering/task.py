"""Extractive question answering: a model learns where in a context the answer begins and ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith_api.spec import Precision, TrainingJobSpec
from tunesmith_trainer.data.encode import Encoded
from tunesmith_trainer.data.formats import Formats
from tunesmith_trainer.data.targets import Facts, Targets
from tunesmith_trainer.tasks.base import Numbers, ValidationSet
from tunesmith_trainer.tasks.one_pass import OnePassTask
from tunesmith_trainer.tasks.question_answering.encoder import QuestionEncoder, stride_of
from tunesmith_trainer.tasks.question_answering.prompts import QuestionPrompt, evaluation_line, read_question_prompts
from tunesmith_trainer.tasks.question_answering.rows import FORMATS
from tunesmith_trainer.tasks.question_answering.targets import AnswerTargets

if TYPE_CHECKING:
    from tunesmith_trainer.evaluate.one_pass import OutputsOf
    from tunesmith_trainer.export.one_pass.served import Asked


class QuestionAnswering(OnePassTask):
    """Trains encoders of transformers with a head that marks the first and the last token of the answer."""

    name = "questionAnswering"
    adapter_task_type = None  # peft's class for QUESTION_ANS drops the types of tokens
    auto_class = "AutoModelForQuestionAnswering"
    output_names = ("start_logits", "end_logits")
    per_token = True
    has_replay = True

    def formats(self, spec: TrainingJobSpec) -> Formats:
        """Return rows as in SQuAD, flat or nested."""
        return FORMATS

    def targets(self, spec: TrainingJobSpec) -> Targets:
        """Return what looks for questions without an answer."""
        return AnswerTargets()

    def head_settings(self, facts: Facts) -> dict[str, Any]:
        """Return nothing: the head has no labels."""
        return {}

    def served_settings(self, spec: TrainingJobSpec, facts: Facts) -> dict[str, Any]:
        """Return also how many tokens of the context two windows share."""
        return {**super().served_settings(spec, facts), "stride": stride_of(spec.training.max_length)}

    def token_types(self, ids: Sequence[int], config: Any) -> list[int]:  # noqa: ANN401
        """Return 1 for the tokens of the context: those after the first separator, which is a row's last token too."""
        numbers = [int(token) for token in ids]
        begin = numbers.index(numbers[-1]) + 1
        return [0] * begin + [1] * (len(numbers) - begin)

    def encoder(self, tokenizer: Any, spec: TrainingJobSpec, facts: Facts) -> QuestionEncoder:  # noqa: ANN401
        """Return the encoder of questions with their contexts."""
        return QuestionEncoder(tokenizer, spec.training.max_length)

    def evaluation_line(self, encoder: Any, piece: Encoded, index: int, is_first_piece: bool) -> dict[str, Any] | None:  # noqa: ANN401
        """Return the question with its context, and where the window's tokens are in it."""
        return evaluation_line(piece, index, is_first_piece)

    def read_prompts(self, path: Path, limit: int) -> list[Any]:
        """Return the first validation questions."""
        return list(read_question_prompts(path, limit))

    def shown_prompt(self, prompt: Any, tokenizer: Any) -> Any:  # noqa: ANN401
        """Return the question and the context."""
        return {"question": prompt.question, "context": prompt.context}

    def collator(self, model: Any, multiple: int) -> Any:  # noqa: ANN401
        """Return the collator, with the answer's tokens of each window."""
        from tunesmith_trainer.tasks.question_answering.collate import AnswerCollator

        return AnswerCollator(partial(self.inputs, config=model.config, multiple=multiple))

    def loss_sum(self, outputs: Any, labels: Any) -> Any:  # noqa: ANN401
        """Return the loss of the windows, summed: of each the mean of both cross-entropies, in nats."""
        from tunesmith_trainer.tasks.question_answering.collate import answer_loss

        return answer_loss(outputs, labels)

    def target_count(self, labels: Any) -> Any:  # noqa: ANN401
        """Return the number of windows."""
        import torch

        return torch.tensor(len(labels), device=labels.device)

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
        """Return loss, exact match and F1."""
        from tunesmith_trainer.models.widening import arithmetic_of

        found = self._evaluated(self.outputs_of(model), data, rows, advance)
        advance(len(data.prompts))
        return {**found, "computedIn": arithmetic_of(model)}

    def _evaluated(
        self, outputs: OutputsOf, data: ValidationSet, rows: int, advance: Callable[[int], None]
    ) -> dict[str, Any]:
        from tunesmith_trainer.tasks.question_answering.evaluate import evaluate_answers

        none = _may_have_none(data)
        return evaluate_answers(outputs, data.store, data.prompts, may_have_none=none, rows=rows, advance=advance)

    def compare_rendering(self, artifact: Path, precision: Precision, data: ValidationSet) -> Numbers:
        """Compare the tokens of the first windows with those that the server makes of the questions."""
        from tunesmith_trainer.export.one_pass.served import compare_inputs
        from tunesmith_trainer.export.rendering import MAX_ROWS

        asked = [_asked(prompt) for prompt in data.prompts[:MAX_ROWS]]
        return compare_inputs(artifact, precision, asked, data.tokenizer)

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
        """Return the loss of the exported model, and exact match and F1 of the server's answers."""
        from tunesmith_trainer.export.one_pass.served import served_answers
        from tunesmith_trainer.tasks.question_answering.metrics import answer_metrics, answer_table

        outputs = self.served_outputs_of(artifact, precision)
        found = self._evaluated(outputs, data, rows, advance)
        asked = [_asked(prompt) for prompt in data.prompts]
        parameters = {"handle_impossible_answer": _may_have_none(data)}
        answers = [one["answer"] for one in served_answers(artifact, precision, asked, parameters, advance)]
        right = [prompt.answers for prompt in data.prompts]
        return {
            "metrics": {"evalLoss": found["metrics"]["evalLoss"], **answer_metrics(answers, right)},
            "byAnswer": answer_table(answers, right),
            "answers": answers,
        }

    def evaluation_fields(self, results: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return the metrics of the questions with and without an answer."""
        return {"byAnswer": {when: result["byAnswer"] for when, result in results.items() if result.get("byAnswer")}}


def _may_have_none(data: ValidationSet) -> bool:
    """Return whether a question can have no answer, as in SQuAD 2.0: some validation question has none."""
    return any(not prompt.answers for prompt in data.prompts)


def _asked(prompt: QuestionPrompt) -> Asked:
    from tunesmith_trainer.export.one_pass.served import Asked

    inputs = {"question": prompt.question, "context": prompt.context}
    return Asked(prompt.row, prompt.location, inputs, prompt.prompt_ids)
