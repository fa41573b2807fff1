"""Prefixes of T5, and the codes of languages that NLLB and mBART mark texts with."""

import pytest

from tunesmith_api.failures import StageError
from tunesmith_api.spec import TranslationSpec
from tunesmith_trainer.tasks.translation.languages import language_name, settled, use_languages

GERMAN = {"sourceLanguage": "de", "targetLanguage": "en"}


@pytest.fixture(scope="module")
def nllb():
    from transformers import NllbTokenizer

    words = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "▁": 4, "H": 5, "i": 6}
    return NllbTokenizer(vocab=words, merges=[])


@pytest.mark.parametrize(
    ("code", "name"),
    [("de", "German"), ("de-AT", "German"), ("en_XX", "English"), ("pt", "Portuguese"), ("xx", None), (None, None)],
)
def test_names(code, name):
    assert language_name(code) == name


@pytest.mark.parametrize(
    ("facts", "model", "settings", "prefix"),
    [
        (GERMAN, "t5", {}, "translate German to English: "),
        (GERMAN, "mt5", {}, ""),
        (GERMAN, "marian", {}, ""),
        ({**GERMAN, "sourceLanguage": "Elvish"}, "t5", {}, ""),
        ({**GERMAN, "sourceLanguage": None}, "t5", {}, ""),
        (GERMAN, "t5", {"prefix": ""}, ""),
        (GERMAN, "marian", {"prefix": ">>eng<< "}, ">>eng<< "),
    ],
)
def test_prefixes(facts, model, settings, prefix):
    assert settled(facts, {"model_type": model}, object(), TranslationSpec(**settings)) == {**facts, "prefix": prefix}


def test_a_model_that_marks_languages_must_know_them(nllb):
    for facts in (GERMAN, {"sourceLanguage": None, "targetLanguage": "eng_Latn"}):
        with pytest.raises(StageError, match=r"spec\.translation\.sourceLanguage") as caught:
            settled(facts, {}, nllb, TranslationSpec())
        assert "source: translation.de" in caught.value.remedy
    with pytest.raises(StageError, match="targetLanguage is en, which") as caught:
        settled({"sourceLanguage": "deu_Latn", "targetLanguage": "en"}, {}, nllb, TranslationSpec())
    assert "eng_Latn" in caught.value.remedy
    known = {"sourceLanguage": "deu_Latn", "targetLanguage": "eng_Latn"}
    assert settled(known, {}, nllb, TranslationSpec()) == {**known, "prefix": ""}


def test_texts_are_marked_with_their_language(nllb):
    use_languages(nllb, {"sourceLanguage": "deu_Latn", "targetLanguage": "eng_Latn"})
    german, english = nllb.convert_tokens_to_ids(["deu_Latn", "eng_Latn"])
    assert nllb(["Hi"])["input_ids"][0][0] == german
    assert nllb(text_target=["Hi"])["input_ids"][0][0] == english
    assert nllb(["Hi"])["input_ids"][0][0] == german
