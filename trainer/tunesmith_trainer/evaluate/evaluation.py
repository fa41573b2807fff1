"""Evaluation of one model: loss and perplexity on tokenised rows, exact match of generated answers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tunesmith_trainer.data.collate import IGNORE_INDEX
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.batches import like_lengths
from tunesmith_trainer.evaluate.generate import greedy
from tunesmith_trainer.models.loading import context_length, stop_ids
from tunesmith_trainer.models.loss import loss_sum, target_count

_MAX_ROWS = 32
_MAX_TOKENS = 8192
_MAX_LOGITS = 1 << 27  # numbers of one batch's logits: 512 MiB in fp32

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Question:
    """A prompt of the validation rows and the answer that it should get.

    Attributes:
        row: Number of the validation row.
        prompt_ids: Token ids of the prompt, ready for generation.
        reference: The expected answer.
    """

    row: int
    prompt_ids: list[int]
    reference: str


def read_questions(path: Path, most: int) -> list[Question]:
    """Return the first questions of a file with `{row, prompt_ids, reference}` a line; none when it is absent."""
    if not path.is_file():
        return []
    questions = []
    with path.open(encoding="utf-8") as file:
        for line, _ in zip(file, range(most), strict=False):
            value = json.loads(line)
            questions.append(Question(value["row"], value["prompt_ids"], value["reference"]))
    return questions


@torch.inference_mode()
def eval_loss(model: Any, store: TokenStore, rows: int, advance: Advance) -> float:  # noqa: ANN401
    """Return the mean negative log-likelihood, in nats, of the learned tokens of the first rows.

    Every token weighs the same, whatever row it is in. NaN when there is no learned token.
    """
    total, count = 0.0, 0
    lengths = [int(length) for length in store.lengths[:rows]]
    budget = max(1, min(_MAX_TOKENS, _MAX_LOGITS // model.config.vocab_size))
    for batch in like_lengths(lengths, _MAX_ROWS, budget):
        width = max(lengths[index] for index in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        attention = torch.zeros_like(ids)
        labels = torch.full((len(batch), width), IGNORE_INDEX, dtype=torch.long)
        for slot, index in enumerate(batch):
            tokens, mask = store[index]
            ids[slot, : len(tokens)] = torch.from_numpy(tokens.astype("int64"))
            attention[slot, : len(tokens)] = 1
            is_target = torch.from_numpy(mask.astype(bool))
            labels[slot, : len(tokens)] = ids[slot, : len(tokens)].where(is_target, IGNORE_INDEX)
        ids, attention, labels = (tensor.to(model.device) for tensor in (ids, attention, labels))
        logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, :-1]
        total += float(loss_sum(logits, labels[:, 1:]))
        count += int(target_count(labels[:, 1:]))
        advance(len(batch))
    return total / count if count else math.nan


def answer(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    questions: Sequence[Question],
    max_new_tokens: int,
    shown: int,
    advance: Advance,
) -> list[str]:
    """Return the model's greedy answer to each question, as text.

    Generation of an answer that can no longer equal its reference is broken off, which saves most of the time on an
    untrained model; the first `shown` answers are generated to their end.
    """
    stop = stop_ids(model, tokenizer)
    references = ["".join(question.reference.split()) for question in questions]
    lengths = [len(tokenizer.encode(q.reference, add_special_tokens=False)) for q in questions]
    # An answer much longer than its reference, however it is cut into tokens, does not equal it.
    room = [context_length(model) - len(question.prompt_ids) for question in questions]
    limits = [max(0, min(max_new_tokens, 2 * n + 8, left)) for n, left in zip(lengths, room, strict=True)]
    answers = [""] * len(questions)
    widths = [len(question.prompt_ids) + limit for question, limit in zip(questions, limits, strict=True)]
    # The shown ones apart: they go on to their end, and would keep the batches of the others busy.
    batches = [
        [first + index for index in batch]
        for first, last in ((0, shown), (shown, len(questions)))
        for batch in like_lengths(widths[first:last], _MAX_ROWS, 2 * _MAX_TOKENS)
    ]
    for batch in batches:

        def go_on(slot: int, tokens: list[int], batch: list[int] = batch) -> bool:
            index = batch[slot]
            # Blanks are left out because decoding may tidy them; a character may be cut in the middle.
            text = "".join(tokenizer.decode(tokens, skip_special_tokens=True).split()).rstrip("\ufffd")
            return index < shown or references[index].startswith(text)

        generated = greedy(model, [questions[i].prompt_ids for i in batch], [limits[i] for i in batch], stop, go_on)
        for index, tokens in zip(batch, generated, strict=True):
            answers[index] = tokenizer.decode(tokens, skip_special_tokens=True)
        advance(len(batch))
    return answers


def exact_match(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return the share of answers that equal their reference, surrounding white space aside; NaN for none."""
    if not references:
        return math.nan
    equal = sum(a.strip() == r.strip() for a, r in zip(answers, references, strict=True))
    return equal / len(references)


def evaluate(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    store: TokenStore,
    questions: Sequence[Question],
    *,
    rows: int,
    max_new_tokens: int,
    shown: int,
    advance: Advance,
) -> dict[str, Any]:
    """Evaluate a model.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        store: The validation rows.
        questions: Prompts and references made from them; may be empty.
        rows: How many of the first rows the loss is taken over.
        max_new_tokens: Most tokens of an answer.
        shown: How many of the first answers are returned.
        advance: Told how many rows or questions are newly done, `rows + len(questions)` in all.

    Returns:
        `{metrics: {evalLoss, perplexity, exactMatch}, answers: [...]}`; None for what cannot be measured.
    """
    loss = eval_loss(model, store, rows, advance)
    answers = answer(model, tokenizer, questions, max_new_tokens, shown, advance)
    metrics = {
        "evalLoss": loss,
        "perplexity": math.exp(loss) if loss < 700 else math.inf,
        "exactMatch": exact_match(answers, [question.reference for question in questions]),
    }
    return {
        "metrics": {name: value if math.isfinite(value) else None for name, value in metrics.items()},
        "answers": answers[:shown],
    }
