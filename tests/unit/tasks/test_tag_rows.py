"""Rows of words with tags and of texts with spans: what is read, and what is refused with where, what and instead."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import DatasetFormat
from tunesmith_trainer.data.formats import RowParser
from tunesmith_trainer.data.report.samples import plain_samples
from tunesmith_trainer.data.sources import Dataset, SourceFile
from tunesmith_trainer.tasks.token_classification.rows import FORMATS, Entity, SpansRow, TaggedRow
from tunesmith_trainer.tasks.token_classification.tags import read_tags
from tunesmith_trainer.tasks.token_classification.targets import TagTargets

GOOD: dict[str, Any] = {"tokens": ["Ada", "came"], "tags": ["B-PER", "O"]}
SPANS: dict[str, Any] = {"text": "Ada came", "spans": [{"start": 0, "end": 3, "label": "PER"}]}


def rows_of(folder: Path, rows: list[Any], name: str = "rows.jsonl", wanted: DatasetFormat = DatasetFormat.AUTO) -> Any:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Dataset([SourceFile(name, path, "")], RowParser(wanted, None, FORMATS))


def facts_of(folder: Path, rows: list[Any], validation: list[Any] = ()) -> Any:  # type: ignore[assignment]
    targets = TagTargets()
    for row in rows_of(folder, rows):
        targets.add(row)
    for row in rows_of(folder, validation, "validation.jsonl") if validation else ():
        targets.add_validation(row)
    return targets.facts()


# rows after a good one: (what is wrong, remedy)
BAD_TAGS: list[tuple[dict[str, Any], str, str]] = [
    ({"tokens": ["a"], "tags": ["O", "O"]}, "tags has 2 entries, tokens 1", "one tag for each word"),
    ({"tokens": ["a", "b"], "tags": ["O"]}, "tokens has 2 entries, tags 1", "one tag for each word"),
    ({"tokens": [], "tags": []}, "tokens is empty", "or remove the row"),
    ({"tokens": "a b", "tags": ["O"]}, "tokens is 'a b', not a list", '"tokens": ["Ada", "came"]'),
    ({"tokens": "['a']", "tags": ["O"]}, "tokens is not valid JSON: it is a Python value", "json.dumps"),
    ({"tokens": None, "tags": ["O"]}, "tokens is null", '"tokens": ["Ada", "came"]'),
    ({"tokens": ["a", ""], "tags": ["O", "O"]}, "tokens[1] is empty", "Remove it together with its tag"),
    ({"tokens": ["a", None], "tags": ["O", "O"]}, "tokens[1] is null", "Remove it together with its tag"),
    ({"tokens": ["a", ["b"]], "tags": ["O", "O"]}, "tokens[1] is ['b'], not a word", '"tokens": ["Ada"'),
    ({"tokens": ["a\ud800"], "tags": ["O"]}, "tokens[0] has half a surrogate", "Write the whole character"),
    ({"tokens": ["a"], "tags": [None]}, "tags[0] is null", 'have "O"'),
    ({"tokens": ["a"], "tags": [1]}, "tags[0] is the number 1, and the file does not say", "feature.names"),
    ({"tokens": ["a"], "tags": ["0"]}, "tags[0] is the number 0", '"names": ["O", "B-PER"'),
    ({"tokens": ["a"], "tags": [7], "names": ["O"]}, "tags[0] is 7, and names has no name", "in the order"),
    ({"tokens": ["a"], "tags": [{}]}, "tags[0] is {}, not a tag", '"tags": ["B-PER"'),
    ({"tokens": ["a", "b"], "tags": ["B-X", "X"]}, "tags[1] is 'X', which is not BIO", 'Write "B-NAME"'),
    ({"text": "Ada", "spans": []}, "format textSpans, not tokenTags as in rows.jsonl:1", "rows of one format"),
]

BAD_SPANS: list[tuple[Any, str, str]] = [
    ([{"start": 0, "end": 9, "label": "PER"}], "spans[0].end is 9, outside the text of 8", "not bytes"),
    ([[0, 3, "PER"], [2, 8, "ORG"]], "spans[1] (2 to 8, ORG) overlaps spans[0] (0 to 3, PER)", "Keep one of the two"),
    ([{"start": 3, "end": 3, "label": "PER"}], "spans[0] begins at 3 and ends at 3, so it is empty", "remove the span"),
    ([{"start": -1, "end": 3, "label": "PER"}], "spans[0].start is -1, below 0", "from 0"),
    ([{"start": "0", "end": 3, "label": "PER"}], "spans[0].start is '0', not a whole number", "number of characters"),
    ([{"start": 0, "end": 3}], "spans[0].label is missing", '"label": "PER"'),
    ([{"start": 0, "end": 3, "label": ""}], "spans[0].label is empty", "Write its text"),
    ([{"start": 0, "end": 3, "label": "B-PER"}], "spans[0].label is 'B-PER', a tag of a word", '"PER"'),
    ([{"start": 0, "end": 3, "label": "O"}], "spans[0].label is 'O'", "no span for what is no entity"),
    ([{"start": 3, "end": 4, "label": "PER"}], "spans[0] marks white space only", "Correct start and end"),
    ([{"start": 1, "end": 4, "label": "PER", "text": "Ada"}], "spans[0] marks 'da ', not 'Ada'", "start: 0 and end: 3"),
    ([5], "spans[0] is 5, no span", '"end" is excluded'),
    (None, "spans is null", '"spans": [{"start": 0'),
]


@pytest.mark.parametrize(("row", "problem", "remedy"), BAD_TAGS, ids=lambda value: str(value)[:40])
def test_bad_row_of_words(row: dict[str, Any], problem: str, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        list(rows_of(tmp_path, [GOOD, row]))
    assert caught.value.reason is Reason.INVALID_DATASET
    assert caught.value.message.startswith("rows.jsonl:2: ")
    assert problem in caught.value.message
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(("spans", "problem", "remedy"), BAD_SPANS, ids=lambda value: str(value)[:40])
def test_bad_spans(spans: Any, problem: str, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        list(rows_of(tmp_path, [SPANS, {"text": "Ada came", "spans": spans}]))
    assert caught.value.message.startswith("rows.jsonl:2: ")
    assert problem in caught.value.message
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("rows", "validation", "location", "problem", "remedy"),
    [
        (
            [GOOD],
            [{"tokens": ["x"], "tags": ["B-ORG"]}],
            "validation.jsonl:1",
            "the entity ORG is in no training",
            "add",
        ),
        (
            [SPANS],
            [{**SPANS, "spans": [[0, 3, "ORG"]]}],
            "validation.jsonl:1",
            "spans: the entity ORG",
            "add rows with",
        ),
        ([{"tokens": ["a"], "tags": ["O"]}] * 2, [], "rows.jsonl:1", "all others have no entity", "with entities"),
        ([{"text": "a", "spans": []}], [], "rows.jsonl:1", "all others have no entity", "with entities"),
        ([{"tokens": ["a"], "tags": ["NOUN"]}], [], "rows.jsonl:1", "the tag NOUN only", "with other tags"),
        ([GOOD, {"tokens": ["a"], "tags": ["PER"]}], [], "rows.jsonl:2", "PER has no prefix, while rows", '"B-NAME"'),
        ([{"tokens": ["a", "b"], "tags": ["PER", "O"]}], [], "rows.jsonl:1", "beside the tag O", '"B-NAME"'),
        (
            [{"tokens": ["a", "b"], "tags": ["NOUN", "VERB"]}],
            [{"tokens": ["x"], "tags": ["ADJ"]}],
            "validation.jsonl:1",
            "the tag ADJ is in no training row (they have NOUN, VERB)",
            "Correct the name",
        ),
    ],
)
def test_bad_labels(
    rows: list[Any], validation: list[Any], location: str, problem: str, remedy: str, tmp_path: Path
) -> None:
    with pytest.raises(StageError) as caught:
        facts_of(tmp_path, rows, validation)
    assert caught.value.reason is Reason.INVALID_DATASET
    assert caught.value.message.startswith(f"{location}: ")
    assert problem in caught.value.message
    assert remedy in caught.value.remedy


def test_other_names_of_columns_are_suggested(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        list(rows_of(tmp_path, [{"id": "0", "words": ["Ada"], "ner_tags": ["B-PER"]}]))
    assert caught.value.remedy == "Write spec.dataset.columns: {tokens: words, tags: ner_tags}"
    with pytest.raises(StageError) as caught:
        list(rows_of(tmp_path, [{"text": "Ada", "entities": [[0, 3, "PER"]]}]))
    assert caught.value.remedy == "Write spec.dataset.columns: {spans: entities}"


def test_labels_have_o_first_and_both_tags_of_each_entity(tmp_path: Path) -> None:
    rows = [GOOD, {"tokens": ["in", "Paris"], "tags": ["O", "B-LOC"]}]
    assert facts_of(tmp_path, rows) == {"labels": ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"], "scheme": "bio"}
    assert facts_of(tmp_path, [SPANS])["labels"] == ["O", "B-PER", "I-PER"]
    plain = {"tokens": ["Ada", "came"], "tags": ["PROPN", "AUX"]}
    assert facts_of(tmp_path, [plain]) == {"labels": ["AUX", "PROPN"], "scheme": "plain"}
    # A validation row may have the other tag of an entity.
    assert facts_of(tmp_path, [GOOD], [{"tokens": ["Ada", "King"], "tags": ["B-PER", "I-PER"]}])


def test_numbers_are_read_with_their_names(tmp_path: Path) -> None:
    row = {"tokens": ["Ada", "came"], "tags": [1, 0], "names": ["O", "B-PER", "I-PER"]}
    [found] = rows_of(tmp_path, [row])
    assert found == TaggedRow("rows.jsonl:1", words=("Ada", "came"), tags=("B-PER", "O"))


def test_spans_are_read_in_the_order_of_the_text(tmp_path: Path) -> None:
    row = {"text": "Ada met Bo", "spans": [[8, 10, "PER"], {"start": 0, "end": 3.0, "label": "PER", "text": "Ada"}]}
    [found] = rows_of(tmp_path, [row])
    assert found == SpansRow("rows.jsonl:1", text="Ada met Bo", entities=(Entity(0, 3, "PER"), Entity(8, 10, "PER")))


def test_i_that_begins_an_entity_is_read_as_b_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [GOOD, {"tokens": list("abcd"), "tags": ["I-PER", "I-PER", "I-LOC", "O"]}]
    assert [row.tags for row in rows_of(tmp_path, rows)][1] == ("B-PER", "I-PER", "B-LOC", "O")
    facts_of(tmp_path, rows)
    assert "2 tags I- that begin an entity were read as B-; the first is in rows.jsonl:2" in caplog.text


def test_the_report_shows_words_and_tags(tmp_path: Path) -> None:
    [sample] = plain_samples(rows_of(tmp_path, [GOOD]))
    assert [piece["text"] for piece in sample["pieces"]] == ["Ada came", " → B-PER O"]


def test_i_after_the_end_of_an_entity_begins_another() -> None:
    assert read_tags("f:1", ["B-A", "E-A", "I-A", "S-A", "E-A"], None) == (("B-A", "I-A", "B-A", "B-A", "B-A"), 2)


# Words as (name of the entity or "", whether it begins one).
segments = st.lists(st.tuples(st.sampled_from(["", "PER", "LOC"]), st.integers(1, 3)), min_size=1, max_size=8)


def in_scheme(entities: list[tuple[str, int]], scheme: str) -> list[str]:
    """Write entities, given as name and number of words, in a scheme."""
    tags: list[str] = []
    for index, (name, words) in enumerate(entities):
        if not name:
            tags += ["O"] * words
            continue
        if scheme == "IOB1":
            touches = index > 0 and entities[index - 1][0] == name
            tags += [f"{'B' if touches else 'I'}-{name}", *[f"I-{name}"] * (words - 1)]
            continue
        begin, inside, end, single = {"BIO": "BIIB", "IOBES": "BIES", "BILOU": "BILU"}[scheme]
        marks = [single] if words == 1 else [begin, *inside * (words - 2), end]
        tags += [f"{mark}-{name}" for mark in marks]
    return tags


@settings(max_examples=500, deadline=None)
@given(segments, st.sampled_from(["BIO", "IOBES", "BILOU", "IOB1"]))
def test_all_schemes_mark_the_same_entities(entities: list[tuple[str, int]], scheme: str) -> None:
    found, _ = read_tags("f:1", in_scheme(entities, scheme), None)
    assert list(found) == in_scheme(entities, "BIO")
