"""Metrics of tags and entities: seqeval's own numbers, and a straightforward count of entities."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_trainer.tasks.token_classification.metrics import entities_of, entity_table, tag_metrics


def test_example_of_seqeval() -> None:
    # The example of seqeval's README.
    right = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    found = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    assert tag_metrics(right, found) == {"f1": 0.5, "precision": 0.5, "recall": 0.5, "accuracy": 0.8}
    none, all_ = {"precision": 0.0, "recall": 0.0, "f1": 0.0}, {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert entity_table(right, found) == {"MISC": {**none, "support": 1}, "PER": {**all_, "support": 1}}


def test_tags_without_entities_have_an_accuracy_only() -> None:
    assert tag_metrics([["N", "V"]], [["N", "N"]]) == {"f1": None, "precision": None, "recall": None, "accuracy": 0.5}
    assert tag_metrics([["O"]], [["B-A"]])["f1"] is None
    assert tag_metrics([[]], [[]])["accuracy"] is None
    assert entity_table([["N"]], [["V"]]) == {}
    assert entities_of(["ADJ", "DET"]) == []


rows = st.lists(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(*[st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), min_size=n, max_size=n)] * 2)
    ),
    min_size=1,
    max_size=4,
)


def entities(row: list[str]) -> set[tuple[str, int, int]]:
    """Entities as conlleval counts them: an I- after another entity, or after none, begins one."""
    found: list[tuple[str, int, int]] = []
    for place, tag in enumerate(row):
        if tag == "O":
            continue
        goes_on = tag[0] == "I" and found and found[-1][0] == tag[2:] and found[-1][2] == place - 1
        if goes_on:
            found[-1] = (found[-1][0], found[-1][1], place)
        else:
            found.append((tag[2:], place, place))
    return set(found)


@settings(max_examples=500, deadline=None)
@given(rows)
def test_against_a_count_of_entities(pairs: list[tuple[list[str], list[str]]]) -> None:
    right, found = ([list(pair[side]) for pair in pairs] for side in (0, 1))
    truth, guess = ([entities(row) for row in side] for side in (right, found))
    hits = sum(len(a & b) for a, b in zip(truth, guess, strict=True))
    wanted, given_ = sum(map(len, truth)), sum(map(len, guess))
    metrics = tag_metrics(right, found)
    words = [a == b for one, other in zip(right, found, strict=True) for a, b in zip(one, other, strict=True)]
    assert metrics["accuracy"] == pytest.approx(sum(words) / len(words))
    if not wanted:
        assert metrics["f1"] is None
        return
    precision, recall = hits / given_ if given_ else 0.0, hits / wanted
    assert metrics["precision"] == pytest.approx(precision)
    assert metrics["recall"] == pytest.approx(recall)
    assert metrics["f1"] == pytest.approx(2 * precision * recall / (precision + recall) if hits else 0.0)
    table = entity_table(right, found)
    assert sum(row["support"] for row in table.values()) == wanted
    for row in right:
        assert {(name, first, last) for name, first, last in entities_of(row)} == entities(row)
