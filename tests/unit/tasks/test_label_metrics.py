"""Metrics are scikit-learn's and SciPy's; losses are torch's, as transformers takes them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_trainer.tasks.sequence_classification.confusion import confusion_svg
from tunesmith_trainer.tasks.sequence_classification.metrics import Tally, confusions, number_metrics

SETTINGS = settings(max_examples=300, deadline=None, derandomize=True, database=None)
PAIRS = {count: st.lists(st.tuples(*[st.integers(0, count - 1)] * 2), min_size=1, max_size=30) for count in range(2, 6)}
CLASSES = st.sampled_from(sorted(PAIRS)).flatmap(lambda count: st.tuples(st.just(count), PAIRS[count]))
SETS = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(st.booleans(), min_size=2 * width, max_size=2 * width), min_size=1, max_size=20)
)


@SETTINGS
@given(CLASSES)
def test_classes(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

    count, pairs = drawn
    expected, predicted = (np.array(numbers) for numbers in zip(*pairs, strict=True))
    tally = Tally.of_classes(expected, predicted, count)
    metrics = tally.metrics(sets=False)
    assert metrics["accuracy"] == pytest.approx(accuracy_score(expected, predicted))
    assert metrics["macroF1"] == pytest.approx(f1_score(expected, predicted, average="macro", zero_division=0))
    labels = [f"c{number}" for number in range(count)]
    present = sorted({*expected.tolist(), *predicted.tolist()})
    table = precision_recall_fscore_support(expected, predicted, labels=present, zero_division=0)
    for row, number, *values in zip(tally.table(labels), present, *table, strict=True):
        assert row["label"] == labels[number]
        assert [row["precision"], row["recall"], row["f1"], row["support"]] == pytest.approx(values)
    matrix = np.zeros((count, count), int)
    for pair in confusions(labels, expected, predicted):
        matrix[labels.index(pair["label"]), labels.index(pair["predicted"])] = pair["rows"]
    assert (matrix == confusion_matrix(expected, predicted, labels=list(range(count)))).all()


@SETTINGS
@given(SETS)
def test_sets_of_labels(rows: list[list[bool]]) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    both = np.array(rows)
    expected, predicted = np.split(both, 2, axis=1)
    metrics = Tally.of_sets(expected, predicted).metrics(sets=True)
    assert metrics["accuracy"] == pytest.approx(accuracy_score(expected, predicted))
    assert metrics["macroF1"] == pytest.approx(f1_score(expected, predicted, average="macro", zero_division=0))


@SETTINGS
@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=1, max_size=20))
def test_numbers(pairs: list[tuple[int, int]]) -> None:
    from scipy.stats import spearmanr
    from sklearn.metrics import mean_squared_error

    expected, predicted = (np.array(numbers) / 2 for numbers in zip(*pairs, strict=True))
    metrics = number_metrics(expected, predicted)
    assert metrics["mse"] == pytest.approx(mean_squared_error(expected, predicted))
    if len(set(expected)) > 1 and len(set(predicted)) > 1:
        assert metrics["spearman"] == pytest.approx(spearmanr(expected, predicted).statistic)
    else:
        assert metrics["spearman"] is None


def test_the_picture_of_a_confusion_matrix() -> None:
    from xml.etree import ElementTree

    pairs: list[dict[str, Any]] = [
        {"label": "<a>", "predicted": "<a>", "rows": 30},
        {"label": "<a>", "predicted": "b & c", "rows": 10},
        {"label": "b & c", "predicted": "b & c", "rows": 7},
    ]
    root = ElementTree.fromstring(confusion_svg(pairs, "7 rows"))  # noqa: S314 - it was just made
    cells = [element for element in root.iter() if element.get("fill-opacity")]
    assert [cell.get("fill-opacity") for cell in cells] == ["0.750", "0.250", "0.000", "1.000"]
    assert {"<a>", "b & c", "30", "10", "7"} <= {element.text for element in root.iter()}
    many = [{"label": f"c{number}", "predicted": f"c{number}", "rows": number + 1} for number in range(100)]
    root = ElementTree.fromstring(confusion_svg(many, "many"))  # noqa: S314
    texts = [element.text for element in root.iter()]
    assert sum(element.get("fill-opacity") is not None for element in root.iter()) == 30 * 30
    assert "c99" in texts and "(others)" in texts and "c0" not in texts
