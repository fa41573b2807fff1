"""Evaluation of a model: the loss on tokenised rows, and generated answers beside their references."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tunesmith_trainer.evaluate.answers import chrf, exact_match, rouge_l
from tunesmith_trainer.evaluate.batches import length_bucketed_batches
from tunesmith_trainer.evaluate.estimate import Advance, Estimate
from tunesmith_trainer.evaluate.generate import cached_tokens, greedy
from tunesmith_trainer.evaluate.prompts import EvalPrompt
from tunesmith_trainer.evaluate.scores import MAX_TOKENS, Scores
from tunesmith_trainer.models.loading import context_length, stop_ids
from tunesmith_trainer.models.widening import arithmetic_of

_MAX_ROWS = 32
_MEASURED_STEPS = 4  # of generation, before its duration is told


@dataclass(frozen=True)
class Answers:
    """Generated answers.

    Attributes:
        texts: The text of each answer.
        is_cut: Of each answer, whether generation stopped because it could no longer equal its reference.
    """

    texts: list[str]
    is_cut: list[bool]


def generate_answers(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    prompts: Sequence[EvalPrompt],
    max_new_tokens: int,
    examples: int,
    advance: Advance,
) -> Answers:
    """Return the model's greedy answer to each prompt.

    Generation stops early once an answer can no longer equal its reference, which saves most of the time on an
    untrained model. The first `examples` answers are always generated to their end.
    """
    stop = stop_ids(model, tokenizer)
    references = ["".join(prompt.reference.split()) for prompt in prompts]
    limits = answer_limits(tokenizer, prompts, max_new_tokens, context_length(model))
    texts, is_cut = [""] * len(prompts), [False] * len(prompts)
    budget = min(2 * MAX_TOKENS, cached_tokens(model.config))
    widths = [len(prompt.prompt_ids) + limit for prompt, limit in zip(prompts, limits, strict=True)]
    # The examples have batches of their own: they are generated to their end, and would delay the others.
    batches = [
        [first + index for index in batch]
        for first, last in ((0, examples), (examples, len(prompts)))
        for batch in length_bucketed_batches(widths[first:last], _MAX_ROWS, budget)
    ]

    def may_still_match(batch: Sequence[int], row: int, tokens: list[int]) -> bool:
        index = batch[row]
        # White space is left out because decoding may tidy it; the last character may be incomplete.
        text = "".join(tokenizer.decode(tokens, skip_special_tokens=True).split()).rstrip("\ufffd")
        is_cut[index] = index >= examples and not references[index].startswith(text)
        return not is_cut[index]

    longest = [max(limits[index] for index in batch) for batch in batches]
    what = f"{len(prompts)} answers of at most {sum(limits)} tokens"
    estimate = Estimate(advance, what, sum(longest), told_after=_MEASURED_STEPS)
    for batch, most in zip(batches, longest, strict=True):
        steps = 0

        def count() -> None:
            nonlocal steps
            steps += 1
            estimate.worked(1)

        generated = greedy(
            model,
            [prompts[index].prompt_ids for index in batch],
            [limits[index] for index in batch],
            stop,
            partial(may_still_match, batch),
            on_step=count,
        )
        estimate.skipped(most - steps)
        for index, tokens in zip(batch, generated, strict=True):
            texts[index] = tokenizer.decode(tokens, skip_special_tokens=True)
        advance(len(batch))
    return Answers(texts, is_cut)


def answer_limits(
    tokenizer: Any,  # noqa: ANN401
    prompts: Sequence[EvalPrompt],
    max_new_tokens: int,
    context: int,
) -> list[int]:
    """Return the most new tokens for each prompt; 0 if the prompt fills the model's context.

    An answer that is much longer than its reference cannot equal it, however it is tokenised.
    """
    lengths = [len(tokenizer.encode(prompt.reference, add_special_tokens=False)) for prompt in prompts]
    room = [context - len(prompt.prompt_ids) for prompt in prompts]
    return [max(0, min(max_new_tokens, 2 * length + 8, left)) for length, left in zip(lengths, room, strict=True)]


def evaluate(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    scores: Scores,
    prompts: Sequence[EvalPrompt],
    *,
    max_new_tokens: int,
    examples: int,
    advance: Advance,
) -> dict[str, Any]:
    """Evaluate a model.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        scores: What it says of the validation rows.
        prompts: Prompts and references made from these rows; may be empty.
        max_new_tokens: Most tokens of an answer.
        examples: Number of answers, from the first, that are generated to their end even if they cannot match, and that
            metrics of whole answers are computed of.
        advance: Called with the number of prompts just finished.

    Returns:
        `{metrics, answers: [...], cut: [...], computedIn}`: the numbers of `metrics_of`; each answer, and whether it
        was cut; the number format of the computation.
    """
    answers = generate_answers(model, tokenizer, prompts, max_new_tokens, examples, advance)
    metrics = metrics_of(scores, answers.texts, prompts, examples)
    computed_in = arithmetic_of(model)
    return {"metrics": metrics, "answers": answers.texts, "cut": answers.is_cut, "computedIn": computed_in}


def metrics_of(
    scores: Scores, answers: Sequence[str], prompts: Sequence[EvalPrompt], examples: int
) -> dict[str, float | None]:
    """Return the task's metrics; None for one that cannot be measured.

    Args:
        scores: The scores of the rows.
        answers: The generated answers.
        prompts: Their prompts and references.
        examples: Number of answers, from the first, that were generated to their end.

    Returns:
        `{evalLoss, perplexity, tokenAccuracy, exactMatch, rougeL, chrf}`.
    """
    references, loss = [prompt.reference for prompt in prompts], scores.mean_loss
    whole = answers[:examples], references[:examples]
    metrics = {
        "evalLoss": loss,
        "perplexity": math.exp(loss) if loss < 700 else math.inf,
        "tokenAccuracy": scores.token_accuracy,
        "exactMatch": exact_match(answers, references),
        "rougeL": rouge_l(*whole),
        "chrf": chrf(*whole),
    }
    return finite(metrics)


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return metrics with None for those that are no finite number."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
