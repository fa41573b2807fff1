"""Evaluation of a translation model: the loss of given targets, and greedy translations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_trainer.data.targets import IGNORE_INDEX
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.batches import length_bucketed_batches
from tunesmith_trainer.evaluate.encoder_decoder import greedy, target_logits
from tunesmith_trainer.evaluate.estimate import Estimate
from tunesmith_trainer.evaluate.one_pass import padded_rows
from tunesmith_trainer.models.encoder_decoder import answer_tokens_of, most_tokens
from tunesmith_trainer.models.loading import without_adapter
from tunesmith_trainer.models.loss import loss_sum
from tunesmith_trainer.models.widening import arithmetic_of, in_float32
from tunesmith_trainer.tasks.translation.metrics import translation_metrics
from tunesmith_trainer.tasks.translation.prompts import TranslationPrompt

Advance = Callable[[int], None]

_MAX_ROWS = 32
_MAX_TOKENS = 8192
_MAX_LOGITS = 1 << 26  # logits of one batch: 256 MiB in fp32
_COMPARED_LOGITS = 1 << 24  # logits of all rows by which models are compared: 64 MiB


def evaluate(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    store: TokenStore,
    prompts: Sequence[TranslationPrompt],
    *,
    rows: int,
    max_new_tokens: int,
    advance: Advance,
) -> dict[str, Any]:
    """Evaluate a model.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        store: The validation rows.
        prompts: What is translated; may be empty.
        rows: Number of rows, from the first, that the loss is computed on.
        max_new_tokens: Most tokens of a translation.
        advance: Called with the number of rows or prompts just finished; `rows + len(prompts)` in total.

    Returns:
        `{metrics, answers, signatures, computedIn}`: the translations, sacrebleu's signatures, the number format of the
        computation. A metric that cannot be measured is None.
    """
    loss = eval_loss(model, store, rows, advance)
    answers = translate(model, tokenizer, prompts, max_new_tokens, advance)
    language = prompts[0].language if prompts else None
    metrics, signatures = translation_metrics(loss, answers, [prompt.reference for prompt in prompts], language)
    return {"metrics": metrics, "answers": answers, "signatures": signatures, "computedIn": arithmetic_of(model)}


def eval_loss(model: Any, store: TokenStore, rows: int, advance: Advance) -> float:  # noqa: ANN401
    """Return the mean negative log-likelihood, in nats, of the target tokens of the first rows; NaN for none."""
    model = without_adapter(model)
    start, vocabulary = answer_tokens_of(model).start, model.get_output_embeddings().out_features
    pairs = [pair_of(store, index) for index in range(rows)]
    lengths = [max(len(source), len(target)) for source, target in pairs]
    budget = max(1, min(_MAX_TOKENS, _MAX_LOGITS // vocabulary))
    batches = length_bucketed_batches(lengths, _MAX_ROWS, budget)
    estimate = Estimate(advance, f"loss on {rows} rows", rows)
    total, count = 0.0, 0
    for batch in batches:
        sources, targets = zip(*(pairs[index] for index in batch), strict=True)
        logits = target_logits(model, sources, [[start, *target[:-1]] for target in targets])
        labels = padded_rows(targets, IGNORE_INDEX, logits.shape[1])
        total += float(loss_sum(logits, labels))
        count += sum(map(len, targets))
        estimate.worked(len(batch))
        advance(len(batch))
    return total / count if count else math.nan


def pair_of(store: TokenStore, index: int) -> tuple[list[int], list[int]]:
    """Return the tokens of a row's source and target."""
    ids, _, target = store[index]  # type: ignore[misc]  # the rows of a store with targets
    return ids.tolist(), [int(token) for token in target]


def translate(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    prompts: Sequence[TranslationPrompt],
    max_new_tokens: int,
    advance: Advance,
) -> list[str]:
    """Return the model's greedy translations."""
    most = answer_limit(without_adapter(model).config, max_new_tokens)
    texts = [""] * len(prompts)
    batches = length_bucketed_batches([len(prompt.prompt_ids) + most for prompt in prompts], _MAX_ROWS, _MAX_TOKENS)
    estimate = Estimate(advance, f"{len(prompts)} translations of at most {most} tokens", len(batches) * most)
    for batch in batches:
        steps = 0

        def count() -> None:
            nonlocal steps
            steps += 1
            estimate.worked(1)

        sources = [prompts[index].prompt_ids for index in batch]
        for index, tokens in zip(batch, greedy(model, sources, [most] * len(batch), on_step=count), strict=True):
            texts[index] = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        estimate.skipped(most - steps)
        advance(len(batch))
    return texts


def answer_limit(config: Any, max_new_tokens: int) -> int:  # noqa: ANN401 - a transformers configuration
    """Return the most tokens of a translation: as many as asked for, and as the decoder has positions for."""
    positions = most_tokens(config)
    return max_new_tokens if positions is None else max(1, min(max_new_tokens, positions - 1))


def compared_logits(model: Any, store: TokenStore, rows: int) -> list[npt.NDArray[np.float32]]:  # noqa: ANN401
    """Return logits of the targets of a few rows, of each float32 [tokens, vocabulary], computed in fp32.

    Args:
        model: The model, with or without an adapter beside it.
        store: Rows.
        rows: How many of them are used, from the first.
    """
    plain = without_adapter(model)
    start, vocabulary = answer_tokens_of(plain).start, plain.get_output_embeddings().out_features
    chosen = [pair_of(store, index) for index in range(min(rows, len(store)))]
    most = max(1, _COMPARED_LOGITS // (vocabulary * max(1, len(chosen))))
    with in_float32(model):
        return [
            target_logits(model, [source], [[start, *target[:-1]][:most]])[0].float().cpu().numpy()
            for source, target in chosen
        ]
