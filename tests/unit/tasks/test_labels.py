"""What labels become: their kind, the classes in order, the weights; compared with straightforward implementations."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.label_checks import label_spec, labels_file, targets_of
from tunesmith_api.failures import StageError
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.tasks.sequence_classification.rows import FORMATS, LabelledRow
from tunesmith_trainer.tasks.sequence_classification.targets import LabelTargets
from tunesmith_trainer.tasks.sequence_classification.task import SequenceClassification

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
NAMES = st.text("ab Ä-0", min_size=1, max_size=3).filter(lambda name: name.strip())
COLUMNS = st.one_of(
    st.lists(NAMES, min_size=1, max_size=12),
    st.lists(st.integers(-3, 12), min_size=1, max_size=12),
    st.lists(st.booleans(), min_size=1, max_size=12),
    st.lists(st.one_of(st.integers(0, 3), st.floats(-5, 5)), min_size=1, max_size=12),
    st.lists(st.one_of(NAMES, st.integers(0, 3), st.booleans()), min_size=1, max_size=5),
)


def read(labels: list[Any]) -> LabelTargets:
    targets = LabelTargets(label_spec())
    for number, label in enumerate(labels):
        targets.add(LabelledRow(f"rows.jsonl:{number + 1}", text="a", labels=(label,)))
    return targets


def is_numeric(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def straightforward(labels: list[Any]) -> dict[str, Any] | None:
    """The kind of the labels and their classes, by looking at all of them at once; None where they are refused."""
    kinds = {bool if isinstance(label, bool) else str if isinstance(label, str) else float for label in labels}
    texts = [label for label in labels if isinstance(label, str)]
    if len(kinds) > 1 and (bool in kinds or not all(map(is_numeric, texts))):
        return None
    numeric = bool not in kinds and all(map(is_numeric, texts))
    whole = [isinstance(label, int) or (isinstance(label, str) and "." not in label) for label in labels]
    if numeric and not all(whole):
        return {"problemType": REGRESSION} if len(set(map(float, labels))) > 1 else None
    names = sorted({str(label).lower() if isinstance(label, bool) else str(label) for label in labels})
    if len(names) < 2:
        return None
    names = sorted(names, key=float) if all(map(is_numeric, names)) else names
    counted = [str(label).lower() if isinstance(label, bool) else str(label) for label in labels]
    return {"problemType": SINGLE, "labels": names, "rows": [counted.count(name) for name in names]}


@settings(max_examples=1500, deadline=None, derandomize=True, database=None)
@given(COLUMNS)
def test_kind_and_classes(labels: list[Any]) -> None:
    expected = straightforward(labels)
    try:
        found = read(labels).facts()
    except StageError:
        found = None
    assert found == expected


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(st.lists(st.sampled_from("abcde"), max_size=4, unique=True), min_size=1, max_size=8))
def test_lists_of_names_and_the_zeros_and_ones_that_say_the_same(rows: list[list[str]]) -> None:
    spec, read_list = label_spec(), FORMATS["textLabels"].read
    named, counted = LabelTargets(spec), LabelTargets(spec)
    for number, labels in enumerate(rows):
        where = f"rows.jsonl:{number + 1}"
        named.add(read_list(where, {"text": "a", "labels": labels}))
        counted.add(read_list(where, {"text": "a", "labels": [int(letter in labels) for letter in "abcde"]}))
    used = sorted({label for labels in rows for label in labels})
    totals = {letter: sum(letter in labels for labels in rows) for letter in "abcde"}
    if len(used) >= 2:
        facts = named.facts()
        assert facts == {"problemType": MULTI, "labels": used, "rows": [totals[letter] for letter in used]}
    assert counted.facts() == {"problemType": MULTI, "labels": list("01234"), "rows": list(totals.values())}
    assert named.strata() is None


def test_a_csv_file_has_the_same_labels_as_json(tmp_path: Path) -> None:
    for labels in ([0, 1, 10, 2, 1], ["b", "a", "b"], [1.5, 2, 0.25], [True, False, True]):
        path = tmp_path / "rows.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            shown = [str(label).lower() if isinstance(label, bool) else label for label in labels]
            writer.writerows([f"text {number}", label] for number, label in enumerate(shown))
        assert targets_of(path).facts() == targets_of(labels_file(tmp_path / "rows.jsonl", labels)).facts()


def test_lists_in_cells_of_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,labels\none,"[""b"", ""a""]"\ntwo,[]\n')
    assert targets_of(path).facts() == {"problemType": MULTI, "labels": ["a", "b"], "rows": [1, 1]}


def test_whole_ratings_are_numbers_if_the_job_says_so(tmp_path: Path) -> None:
    path = labels_file(tmp_path / "rows.jsonl", [1, 5, 3])
    assert targets_of(path).facts()["labels"] == ["1", "3", "5"]
    assert targets_of(path, classification={"problemType": "regression"}).facts() == {"problemType": REGRESSION}
    path = labels_file(tmp_path / "rows.jsonl", [0.5, 1, 1.0, 2.5])
    facts = targets_of(path, classification={"problemType": "singleLabelClassification"}).facts()
    assert facts["labels"] == ["0.5", "1", "2.5"]
    assert facts["rows"] == [1, 2, 1]


def test_weights_are_those_of_scikit_learn(tmp_path: Path) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = ["b"] * 7 + ["a"] * 2 + ["c"] * 11
    facts = targets_of(labels_file(tmp_path / "r.jsonl", labels), classification={"classWeights": "balanced"}).facts()
    expected = compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=labels)
    assert facts["classWeights"] == pytest.approx(expected.tolist(), rel=1e-15)


def test_the_order_of_the_base_models_classes_is_kept() -> None:
    class Tokenizer:
        model_max_length = 512

    facts = {"problemType": SINGLE, "labels": ["a", "b", "c"], "rows": [1, 2, 3], "classWeights": [3.0, 2.0, 1.0]}
    task, spec = SequenceClassification(), label_spec()
    same = task.settled_facts(facts, {"id2label": {0: "c", 1: "a", 2: "b"}}, Tokenizer(), spec)
    assert same["labels"] == ["c", "a", "b"]
    assert same["rows"] == [3, 1, 2]
    assert same["classWeights"] == [1.0, 3.0, 2.0]
    assert same["maxLength"] == 512
    assert task.head_settings(same)["label2id"] == {"c": 0, "a": 1, "b": 2}
    other = task.settled_facts(facts, {"id2label": {0: "LABEL_0", 1: "a", 2: "b"}}, Tokenizer(), spec)
    assert other["labels"] == ["a", "b", "c"]
    roberta = {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    Tokenizer.model_max_length = 10**30
    assert task.settled_facts(facts, roberta, Tokenizer(), spec)["maxLength"] == 512


def test_rows_that_say_the_same_and_differ_contradict_each_other() -> None:
    one = LabelledRow("rows.jsonl:1", text="a", pair="b", labels=("x",))
    other = LabelledRow("rows.jsonl:2", text="a", pair="b", labels=("y",))
    assert one.question == other.question == ["a", "b"]
    assert one.texts != other.texts
    assert one.characters == 2


def test_other_rows_are_a_mistake_of_the_caller() -> None:
    for add in (LabelTargets(label_spec()).add, LabelTargets(label_spec()).add_validation):
        with pytest.raises(TypeError):
            add(Row("rows.jsonl:1", text="a"))
