"""The metrics of tags and of entities, as seqeval computes them in its default mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Tags = Sequence[Sequence[str]]
"""The tags of each row."""


def tag_metrics(expected: Tags, predicted: Tags) -> dict[str, float | None]:
    """Return `{f1, precision, recall, accuracy}`; None where there is nothing to measure.

    The first three are of whole entities: one counts if its first and last word and its name are right. They are
    averaged over all entities (micro). Accuracy is the share of words with the right tag.

    Args:
        expected: The right tags.
        predicted: Those of the model.
    """
    from seqeval.metrics import accuracy_score, f1_score, precision_score, recall_score

    words = sum(map(len, expected))
    accuracy = float(accuracy_score(expected, predicted)) if words else None
    if not any(entities_of(tags) for tags in expected):
        return {"f1": None, "precision": None, "recall": None, "accuracy": accuracy}
    found = {
        name: float(score(expected, predicted, zero_division=0))
        for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score))
    }
    return {**found, "accuracy": accuracy}


def entity_table(expected: Tags, predicted: Tags) -> dict[str, dict[str, float | int]]:
    """Return `{precision, recall, f1, support}` of each kind of entity, by its name; none if there is no entity.

    Args:
        expected: The right tags.
        predicted: Those of the model.
    """
    from seqeval.metrics import classification_report

    if not any(entities_of(tags) for tags in expected):
        return {}
    report: Mapping[str, Mapping[str, Any]] = classification_report(
        expected, predicted, output_dict=True, zero_division=0
    )
    return {
        name: {
            "precision": float(row["precision"]),
            "recall": float(row["recall"]),
            "f1": float(row["f1-score"]),
            "support": int(row["support"]),
        }
        for name, row in report.items()
        if not name.endswith(" avg")
    }


def entities_of(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return `(name, first, last)` of each entity in tags in BIO; none in tags without prefixes.

    Args:
        tags: The tags of a row.
    """
    from seqeval.metrics.sequence_labeling import get_entities

    if not any(tag.startswith(("B-", "I-")) for tag in tags):
        return []
    return [(str(name), int(first), int(last)) for name, first, last in get_entities(list(tags))]
