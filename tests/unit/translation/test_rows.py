"""Pairs are read, and bad ones are refused with file, line, field and remedy."""

import pytest

from tunesmith_api.failures import StageError
from tunesmith_api.spec import DatasetFormat, TranslationSpec
from tunesmith_trainer.data.formats import RowParser
from tunesmith_trainer.tasks.translation.rows import formats
from tunesmith_trainer.tasks.translation.targets import PairTargets

GERMAN = {"translation": {"de": "Hallo", "en": "Hello"}}


def parser(format_="auto", columns=None, **settings):
    return RowParser(DatasetFormat(format_), columns, formats(TranslationSpec(**settings)))


def read(rows, **options):
    own = parser(**options)
    return [own.parse(f"rows.jsonl:{line}", row) for line, row in enumerate(rows, 1)]


def pair(row):
    return row.source, row.target, row.languages


def test_the_first_row_says_which_text_is_the_source():
    swapped = {"translation": {"en": "Bye", "de": "Tschüss"}}
    rows = read([GERMAN, swapped])
    assert [pair(row) for row in rows] == [("Hallo", "Hello", ("de", "en")), ("Tschüss", "Bye", ("de", "en"))]
    assert rows[0].texts == ["Hallo", "Hello"]
    assert rows[0].question == ["Hallo"]
    assert rows[0].characters == 10


@pytest.mark.parametrize(
    "settings",
    [{"source_language": "en", "target_language": "de"}, {"source_language": "en"}, {"target_language": "de"}],
)
def test_the_spec_can_name_the_languages(settings):
    [row] = read([GERMAN], **settings)
    assert pair(row) == ("Hello", "Hallo", ("en", "de"))


def test_of_more_than_two_languages_the_named_ones_are_read():
    row = {"translation": {"de": "Hallo", "fr": "Bonjour", "en": "Hello"}}
    assert pair(read([row], source_language="fr", target_language="en")[0]) == ("Bonjour", "Hello", ("fr", "en"))


def test_flat_rows():
    flat = {"source": "Hallo", "target": "Hello"}
    assert pair(read([flat])[0]) == ("Hallo", "Hello", None)
    columns = {"source": "translation.en", "target": "translation.de"}
    assert pair(read([GERMAN], columns=columns)[0]) == ("Hello", "Hallo", None)


BAD = [
    # rows, options, what the message says, what the remedy says
    (
        [GERMAN, {"translation": {"de": "Hallo"}}],
        {},
        "rows.jsonl:2: translation has no en (it has de)",
        "two languages",
    ),
    (
        [GERMAN, {"translation": {"de": "Hallo", "fr": "Bonjour"}}],
        {},
        "translation has no en (it has de, fr): the first row, rows.jsonl:1, has de and en",
        "sourceLanguage",
    ),
    (
        [GERMAN, {"translation": {"de": "Hallo", "en": ""}}],
        {},
        "rows.jsonl:2: translation.en is empty",
        "remove the row",
    ),
    ([{"translation": {"de": None, "en": "Hello"}}], {}, "rows.jsonl:1: translation.de is null", "Write its text"),
    ([{"translation": {"de": ["Hallo"], "en": "Hello"}}], {}, "translation.de is ['Hallo'], not a text", "quotes"),
    ([{"translation": "Hallo"}], {}, "translation is 'Hallo', not an object", "columns: {source:"),
    ([{"translation": {}}], {}, "translation has no language", "sourceLanguage: de, targetLanguage: en"),
    ([{"translation": {"de": "Hallo"}}], {}, "translation has de: it is not known which", "sourceLanguage"),
    (
        [{"translation": {"de": "Hallo", "fr": "Bonjour", "en": "Hello"}}],
        {},
        "translation has de, fr, en: it is not known",
        "{sourceLanguage: de, targetLanguage: fr}",
    ),
    ([GERMAN], {"source_language": "it"}, "translation has de, en: it is not known", "targetLanguage: en}"),
    (
        [GERMAN],
        {"source_language": "it", "target_language": "en"},
        "translation has no it (it has de, en), which spec.translation names",
        "correct spec.translation",
    ),
    ([{"source": "Hallo", "target": "  "}], {}, "rows.jsonl:1: target is empty", "remove the row"),
    ([{"source": "Hallo"}], {"format_": "sourceTarget"}, "target is missing (the row has 'source')", '"target": "..."'),
    ([{"source": "Hallo", "target": 1.5}], {}, "target is 1.5, not a text", "quotes"),
    ([{"de": "Hallo", "en": "Hello"}], {}, "the format is not recognised", "columns: {source: de, target: en}"),
    (
        [{"de": "Hallo", "en": "Hello"}],
        {"source_language": "en", "target_language": "de"},
        "the format is not recognised",
        "columns: {source: en, target: de}",
    ),
    ([{"src": "Hallo", "tgt": "Hello"}], {}, "the format is not recognised", "columns: {source: src, target: tgt}"),
    ([{"prompt": "Hallo", "reply": "Hello"}], {}, "the format is not recognised", "sourceTarget: source, target"),
    (
        [GERMAN, {"source": "a", "target": "b"}],
        {},
        "the row is in the format sourceTarget, not translation",
        "one format",
    ),
]


@pytest.mark.parametrize(("rows", "options", "message", "remedy"), BAD)
def test_bad_rows(rows, options, message, remedy):
    with pytest.raises(StageError) as caught:
        read(rows, **options)
    assert message in caught.value.message
    assert remedy in caught.value.remedy
    assert caught.value.message.startswith(f"rows.jsonl:{len(rows)}: ")


@pytest.mark.parametrize("row", [{"de": "Hallo", "en": "Hello"}, {"src": "Hallo", "tgt": "Hello"}])
def test_the_suggested_columns_work(row):
    with pytest.raises(StageError) as caught:
        read([row])
    line = caught.value.remedy.split("columns: {")[1].rstrip("}")
    columns = dict(entry.split(": ") for entry in line.split(", "))
    assert pair(read([row], columns=columns)[0]) == ("Hallo", "Hello", None)


def test_equal_texts_are_told(caplog):
    targets = PairTargets(TranslationSpec())
    rows = read([GERMAN, *({"translation": {"de": "OK", "en": " OK"}},) * 3])
    for row in rows:
        targets.add(row)
    assert targets.facts() == {"sourceLanguage": "de", "targetLanguage": "en"}
    assert "equal in 3 of 4 rows, the first is rows.jsonl:2" in caplog.text
    assert targets.report() == {"equalPairs": {"rows": 3, "examples": ["rows.jsonl:2"]}}


def test_the_languages_of_flat_rows_are_those_of_the_spec():
    settings = TranslationSpec(target_language="en")
    targets = PairTargets(settings)
    for row in read([{"source": "Hallo", "target": "Hello"}], target_language="en"):
        targets.add(row)
    assert targets.facts() == {"sourceLanguage": None, "targetLanguage": "en"}
