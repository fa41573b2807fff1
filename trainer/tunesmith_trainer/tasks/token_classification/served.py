"""The task's metrics on the served bits: the loss on the exported model, the tags in the server's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith_api.spec import Precision
from tunesmith_trainer.export.one_pass.served import Asked, served_answers
from tunesmith_trainer.tasks.token_classification.encoder import first_tokens, tags_of_entities
from tunesmith_trainer.tasks.token_classification.metrics import entities_of, entity_table, tag_metrics
from tunesmith_trainer.tasks.token_classification.prompts import TagPrompt
from tunesmith_trainer.tasks.token_classification.rows import Entity

_PARAMETERS = {"aggregation_strategy": "none", "ignore_labels": list[str]()}
"""With these a server answers with the label of each token."""


def asked_of(prompt: TagPrompt) -> Asked:
    """Return what a server is asked about a row."""
    return Asked(prompt.row, prompt.location, prompt.inputs, prompt.prompt_ids)


def evaluate_served_tags(
    artifact: Path,
    precision: Precision,
    prompts: Sequence[TagPrompt],
    loss: float | None,
    advance: Callable[[int], None],
) -> dict[str, Any]:
    """Evaluate the server's answers.

    Args:
        artifact: An artifact folder with the export.
        precision: The export.
        prompts: The rows that are asked about.
        loss: The loss of the exported model.
        advance: Called with the number of rows just answered.

    Returns:
        As `evaluate.evaluate_tags`.

    Raises:
        StageError: PARITY_FAILED if the server refuses a row.
    """
    answers = served_answers(artifact, precision, [asked_of(prompt) for prompt in prompts], _PARAMETERS, advance)
    found = [served_tags(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    expected, predicted = [right for right, _, _ in found], [given for _, given, _ in found]
    return {
        "metrics": {"evalLoss": loss, **tag_metrics(expected, predicted)},
        "entities": entity_table(expected, predicted),
        "answers": [shown for _, _, shown in found],
    }


def served_tags(prompt: TagPrompt, answer: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str], str]:
    """Return the right tags of a row, those in a server's answer, and its entities as a text.

    They are the tags of words, or of the tokens of a text.

    Args:
        prompt: The row.
        answer: `{entity, start, end}` of each token of the text, or of the words joined by spaces.
    """
    offsets = [(int(token["start"]), int(token["end"])) for token in answer]
    tags = [str(token["entity"]) for token in answer]
    if isinstance(prompt.inputs, str):
        entities = [Entity(*entity) for entity in prompt.entities]
        right = tags_of_entities(prompt.location, prompt.inputs, entities, offsets)
        parts = offsets
        text = prompt.inputs
    else:
        words: Sequence[str] = prompt.inputs["tokens"]
        text, places = " ".join(words), [0]
        for word in words:
            places.append(places[-1] + len(word) + 1)
        firsts = first_tokens(words, offsets)
        kept = [index for index, first in enumerate(firsts) if first is not None]
        right = [prompt.tags[index] for index in kept]
        tags = [tags[first] for first in firsts if first is not None]
        parts = [(places[index], places[index + 1] - 1) for index in kept]
    named = [f"{name}: {text[parts[first][0] : parts[last][1]].strip()}" for name, first, last in entities_of(tags)]
    is_plain = not named and any(tag != "O" for tag in tags)
    return right, tags, " ".join(tags) if is_plain else "; ".join(named)
