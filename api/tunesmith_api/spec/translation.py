"""Settings of the task translation."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from tunesmith_api.spec.base import Rule, SpecModel

_LANGUAGE = r"^[A-Za-z][A-Za-z0-9_-]*$"


class TranslationSpec(SpecModel):
    """The languages of the task translation, and what stands before each source."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.sourceLanguage) || !has(self.targetLanguage) || self.sourceLanguage != self.targetLanguage",
            "sourceLanguage and targetLanguage must not be equal; write for example {sourceLanguage: de, "
            "targetLanguage: en}",
            lambda t: t.source_language is None or t.source_language != t.target_language,
        ),
    )

    source_language: str | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        pattern=_LANGUAGE,
        description="Language of the sources. Of rows such as {translation: {de: ..., en: ...}} it is the key of the "
        "source, by default the first one of the first row. With NLLB and mBART it is the model's code of the "
        "language, such as deu_Latn or de_DE.",
        examples=["de"],
    )
    target_language: str | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        pattern=_LANGUAGE,
        description="Language of the targets, likewise.",
        examples=["en"],
    )
    prefix: str | None = Field(
        default=None,
        max_length=256,
        description="Text before each source, in training and in the server. By default 'translate German to English: "
        "' with T5, if the languages are known by their codes, and none with other models. '' writes none.",
        examples=["translate German to English: "],
    )
