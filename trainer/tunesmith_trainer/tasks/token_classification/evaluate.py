"""Evaluation of a model on the validation rows; the pieces of a row are put together again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.log_softmax import log_softmax
from tunesmith_trainer.evaluate.one_pass import OutputsOf
from tunesmith_trainer.tasks.token_classification.metrics import entities_of, entity_table, tag_metrics
from tunesmith_trainer.tasks.token_classification.prompts import TagPrompt


def evaluate_tags(
    outputs: OutputsOf,
    labels: Mapping[int, str],
    tokenizer: Any,  # noqa: ANN401
    store: TokenStore,
    prompts: Sequence[TagPrompt],
    *,
    rows: int,
    advance: Callable[[int], None],
) -> dict[str, Any]:
    """Evaluate a model.

    Args:
        outputs: Returns what the model computes for rows.
        labels: The labels by their numbers.
        tokenizer: Its tokenizer, to show entities.
        store: The validation rows, a `LabelledStore`.
        prompts: What is known of the rows that are evaluated; if there are none, each piece counts as a row.
        rows: Number of pieces, from the first, of which progress is told.
        advance: Called with the number of these that are just finished.

    Returns:
        `{metrics, answers, entities}`; `entities` is the table of `entity_table`.
    """
    groups = [range(prompt.row, prompt.row + prompt.pieces) for prompt in prompts]
    groups = groups or [range(index, index + 1) for index in range(rows)]
    pieces = [index for group in groups for index in group]
    found: dict[int, npt.NDArray[np.int64]] = {}
    total, count = 0.0, 0
    tokens = [store[index][0].tolist() for index in pieces]
    for slot, (logits,) in outputs(tokens):
        index = pieces[slot]
        targets = _targets(store, index)
        places = np.flatnonzero(targets >= 0)
        chances = log_softmax(logits[places])
        total -= float(chances[np.arange(len(places)), targets[places]].sum())
        count += len(places)
        found[index] = chances.argmax(axis=-1)
        if index < rows:
            advance(1)
    expected, predicted, answers = [], [], []
    for group in groups:
        right = np.concatenate([_targets(store, index) for index in group])
        given = np.concatenate([found[index] for index in group])
        expected.append([labels[number] for number in right[right >= 0].tolist()])
        predicted.append([labels[number] for number in given.tolist()])
    for group, tags in zip(groups, predicted, strict=True):
        answers.append(_shown(tokenizer, np.concatenate([store[index][0] for index in group]), store, group, tags))
    loss = total / count if count else None
    return {
        "metrics": {"evalLoss": loss, **tag_metrics(expected, predicted)},
        "entities": entity_table(expected, predicted),
        "answers": answers if prompts else [],
    }


def _targets(store: TokenStore, index: int) -> npt.NDArray[np.int64]:
    """Return the labels of a piece's tokens, int64 [tokens]; below 0 for those that have none."""
    _, _, targets = store[index]  # type: ignore[misc]
    return np.asarray(targets, np.int64)


def _shown(
    tokenizer: Any,  # noqa: ANN401
    ids: npt.NDArray[np.int32],
    store: TokenStore,
    group: range,
    tags: Sequence[str],
) -> str:
    """Return the entities of a row as a text; of tags without prefixes all of them."""
    places = np.flatnonzero(np.concatenate([_targets(store, index) for index in group]) >= 0)
    entities = entities_of(tags)
    if not entities:
        return " ".join(tags) if any(tag != "O" for tag in tags) else ""
    ends = [*places[1:].tolist(), len(ids)]
    parts = [(name, ids[places[first] : ends[last]].tolist()) for name, first, last in entities]
    return "; ".join(f"{name}: {tokenizer.decode(part, skip_special_tokens=True).strip()}" for name, part in parts)
