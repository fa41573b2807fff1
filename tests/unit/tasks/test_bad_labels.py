"""Each file of texts with bad labels gives one error that says where, what, and what to write instead."""

import json
from pathlib import Path

import pytest

from support.label_checks import label_spec, labels_file, targets_of
from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.prepare.split import held_out_rows
from tunesmith_trainer.tasks.sequence_classification.class_counts import MAX_CLASSES
from tunesmith_trainer.tasks.sequence_classification.task import SequenceClassification

FOLDER = Path(__file__).parents[2] / "data" / "bad-labels"

# file: (location, what is wrong, remedy)
EXPECTED = {
    "boolean-and-number.jsonl": (":2: ", "label is 0, a number, and in boolean-and-number.jsonl:1 it is a boolean", ""),
    "both-formats.jsonl": (":2: ", "the row is in the format textLabels, not textLabel", "Keep rows of one format"),
    "label-empty.csv": (":3: ", "label is empty", "Write the row's label, or remove the row"),
    "label-empty.jsonl": (":2: ", "label is empty", "Write the row's label, or remove the row"),
    "label-infinite.jsonl": (":2: ", "label is inf, not a finite number", "Write a number, or remove the row"),
    "label-is-a-list.jsonl": (":2: ", "label is a list", "{format: textLabels, columns: {labels: label}}"),
    "label-is-an-object.jsonl": (":1: ", "label is {'name': 'pos'}, neither a name nor a number", "a name in quotes"),
    "label-missing.jsonl": (":3: ", "label is missing (the row has 'text')", '{"text": "...", "label": "..."}'),
    "label-nan.csv": (":3: ", "label is not a finite number, and the labels of other rows are", "Write a number"),
    "label-nan.jsonl": (":2: ", "NaN is not JSON", "Write a number"),
    "label-null.jsonl": (":2: ", "label is null", "Write the row's label"),
    "label-too-large.jsonl": (":1: ", "label is 100000000000000000000, too large a number", "as a name in quotes"),
    "label-twice.jsonl": (":2: ", "labels has 'a' twice", "Remove the second"),
    "labels-all-empty.jsonl": (":1: ", "labels is [], as in all rows", "Write the labels that apply to each row"),
    "labels-is-a-name.jsonl": (":1: ", "labels is 'pos', not a list", "{format: textLabel, columns: {label: labels}}"),
    "labels-mixed.jsonl": (":1: ", "labels[1] is 1, a number, and in labels-mixed.jsonl:1 it is a name", "or all as"),
    "labels-not-json.csv": (":2: ", "labels is not valid JSON", 'Write names in double quotes: ["a", "b"]'),
    "labels-null.jsonl": (":2: ", "labels is null", "Write [] for a row that has none"),
    "labels-only-one.jsonl": (":1: ", "'a' is the only label of all rows", '"label": true} and false'),
    "name-and-number.jsonl": (":2: ", "label is 0, a number, and in name-and-number.jsonl:1 it is a name", "in quotes"),
    "number-and-name.jsonl": (":2: ", "label is 'neg', a name, and in number-and-name.jsonl:1 it is a number", "all"),
    "one-class.jsonl": (":1: ", "the label of all rows is 'pos'", "Add rows with at least one other label"),
    "one-number.jsonl": (":1: ", "the labels of all rows are 2.5", "Add rows with other numbers"),
    "other-columns.jsonl": (":1: ", "not recognised", "Write spec.dataset.columns: {text: review, label: sentiment}"),
    "pair-columns.jsonl": (":1: ", "not", "columns: {text: sentence1, label: similarity, textPair: sentence2}"),
    "pair-is-an-object.jsonl": (":1: ", "textPair is {'a': 1}, not a text", "in quotes"),
    "text-is-a-list.jsonl": (":1: ", "text is ['good'], not a text", "in quotes"),
    "text-is-a-number.jsonl": (":2: ", "text is 4.5, not a text", "in quotes"),
    "zeros-and-ones-and-numbers.jsonl": (":2: ", "labels are names, and not so in", "a 0 or 1 for each class in all"),
    "zeros-and-ones-of-two-lengths.jsonl": (":2: ", "labels has 4 zeros and ones, and 3 in", "one for each class"),
}


def failure(path: Path, validation: Path | None = None, **sections: object) -> StageError:
    with pytest.raises(StageError) as caught:
        targets_of(path, validation, **sections).facts()
    assert "\n" not in str(caught.value)
    return caught.value


def test_every_bad_file_is_expected() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_bad_file(name: str) -> None:
    location, problem, remedy = EXPECTED[name]
    error = failure(FOLDER / name)
    assert error.reason is Reason.INVALID_DATASET
    assert error.message.startswith(name + location)
    assert problem in error.message
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("label-is-a-list.jsonl", {"format": "textLabels", "columns": {"labels": "label"}}),
        ("labels-is-a-name.jsonl", {"format": "textLabel", "columns": {"label": "labels"}}),
        ("other-columns.jsonl", {"columns": {"text": "review", "label": "sentiment"}}),
        ("pair-columns.jsonl", {"columns": {"text": "sentence1", "label": "similarity", "textPair": "sentence2"}}),
    ],
)
def test_what_a_remedy_says_to_write_is_read(tmp_path: Path, name: str, dataset: dict[str, object]) -> None:
    line = json.loads((FOLDER / name).read_text().splitlines()[-1])
    changed = {
        key: ["x"] if isinstance(value, list) else "x" if key != "text" else value for key, value in line.items()
    }
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in (line, changed)))
    sources = {"sources": [{"uri": "./rows.jsonl"}]}
    if "similarity" in line:
        path.write_text("".join(json.dumps({**line, "similarity": number}) + "\n" for number in (1.5, 4.5)))
    targets_of(path, dataset={**sources, **dataset}).facts()


def test_a_label_that_only_validation_rows_have(tmp_path: Path) -> None:
    train = labels_file(tmp_path / "train.jsonl", ["spam", "ham", "spam"])
    validation = labels_file(tmp_path / "validation.jsonl", ["ham", "Spam"])
    error = failure(train, validation)
    assert error.message == "validation.jsonl:2: no training row has the label 'Spam'; they have 'ham', 'spam'"
    assert error.remedy.startswith("Write 'spam', add rows with this label to spec.dataset.sources")


def test_a_name_among_numbers_of_validation_rows(tmp_path: Path) -> None:
    train = labels_file(tmp_path / "train.jsonl", [0.5, 2, 4.25])
    error = failure(train, labels_file(tmp_path / "validation.jsonl", [1, "high"]))
    assert error.message == "validation.jsonl:2: label is 'high', and numbers are to be predicted"
    assert "Write a number" in error.remedy


def test_too_many_classes(tmp_path: Path) -> None:
    error = failure(labels_file(tmp_path / "rows.jsonl", list(range(MAX_CLASSES + 2))))
    assert error.message == "rows.jsonl:10001: this is the label of class 10,001, and 10,000 classes can be learned"
    assert "{problemType: regression}" in error.remedy
    several = {"classification": {"problemType": "regression"}}
    assert targets_of(tmp_path / "rows.jsonl", **several).facts() == {"problemType": "regression"}


@pytest.mark.parametrize(
    ("labels", "settings", "problem", "remedy"),
    [
        ([["a"], ["b"]], {"classWeights": "balanced"}, "rows have several labels", "Remove classWeights"),
        ([0.5, 1.5], {"classWeights": "balanced"}, "the labels are numbers", "Remove classWeights"),
        (["a", "b"], {"problemType": "regression"}, "rows.jsonl:1: label is a name", "singleLabelClassification"),
        ([True, False], {"problemType": "regression"}, "rows.jsonl:1: label is a boolean", "singleLabel"),
        (["a", "b"], {"problemType": "multiLabelClassification"}, "have one label each (rows.jsonl:1)", "leave it out"),
        ([["a"], ["b"]], {"problemType": "regression"}, "have lists of labels (rows.jsonl:1)", "multiLabel"),
    ],
)
def test_a_spec_that_does_not_go_with_the_labels(
    tmp_path: Path, labels: list[object], settings: dict[str, str], problem: str, remedy: str
) -> None:
    column = "labels" if isinstance(labels[0], list) else "label"
    error = failure(labels_file(tmp_path / "rows.jsonl", labels, column), classification=settings)
    assert problem in error.message
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("problem", "metric", "remedy"),
    [
        ("regression", "accuracy", "evalLoss, mse, spearman; if the labels are meant as classes"),
        ("single_label_classification", "spearman", "evalLoss, accuracy, macroF1; if the labels are meant as numbers"),
        ("multi_label_classification", "mse", "evalLoss, accuracy, macroF1"),
    ],
)
def test_a_gate_on_a_metric_that_the_labels_do_not_have(problem: str, metric: str, remedy: str) -> None:
    task = SequenceClassification()
    for name, fails in ((metric, True), ("evalLoss", False)):
        spec = label_spec(evaluation={"gates": [{"metric": name, "min": 0.5}]})
        if not fails:
            task.check_gates(spec, {"problemType": problem})
            continue
        with pytest.raises(StageError, match=metric) as caught:
            task.check_gates(spec, {"problemType": problem})
        assert caught.value.reason is Reason.INVALID_SPEC
        assert remedy in caught.value.remedy


def test_classes_of_a_single_row_each_cannot_be_split(tmp_path: Path) -> None:
    targets = targets_of(labels_file(tmp_path / "rows.jsonl", ["a", "b", "c"]))
    with pytest.raises(StageError, match="each label has a single row") as caught:
        held_out_rows(3, 0.3, 0, targets.strata())
    assert "spec.dataset.validation.sources" in caught.value.remedy


def test_what_is_only_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    targets = targets_of(labels_file(tmp_path / "rows.jsonl", ["Spam", "ham", "spam", "ham", "Spam", "h am"]))
    assert targets.facts()["labels"] == ["Spam", "h am", "ham", "spam"]
    assert "the labels 'Spam' and 'spam' differ only in case or white space (rows.jsonl:3)" in caplog.text
    assert "2 labels have a single row, which is kept for training, the first is 'spam'" in caplog.text
    assert targets.report()["labels"]["similar"] == [["Spam", "spam"], ["ham", "h am"]]
