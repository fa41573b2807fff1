"""The rows of translation: pairs of a source and a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith_api.spec import DatasetFormat, TranslationSpec
from tunesmith_trainer.data.conversation import as_text
from tunesmith_trainer.data.errors import dataset_error, shown
from tunesmith_trainer.data.formats import Format, Formats
from tunesmith_trainer.data.rows import Row

_NESTED = '{"translation": {"de": "...", "en": "..."}}'
_FLAT = '{"source": "...", "target": "..."}'
# Names that the columns often have in other files. Codes of languages come last, in the order of the alphabet.
_CODES = ("ar", "cs", "da", "de", "en", "es", "fi", "fr", "hi", "it", "ja", "ko", "nl", "pl", "pt", "ru", "sv", "tr")
_SOURCES = ("source_text", "src", "src_text", "source_sentence", "input", "original", "text")
_TARGETS = ("target_text", "tgt", "trg", "tgt_text", "target_sentence", "output", "translation", "reference")


@dataclass(frozen=True)
class TranslationRow(Row):
    """A checked pair.

    Attributes:
        source: The text to translate.
        target: Its translation.
        languages: The keys of both in the file; None if the columns are source and target.
    """

    source: str = ""
    target: str = ""
    languages: tuple[str, str] | None = None

    @property
    def texts(self) -> list[str]:
        """Both texts."""
        return [self.source, self.target]

    @property
    def question(self) -> list[str]:
        """The source."""
        return [self.source]

    @property
    def characters(self) -> int:
        """Number of characters of both."""
        return len(self.source) + len(self.target)


def formats(settings: TranslationSpec) -> Formats:
    """Return the formats of translation.

    Args:
        settings: The languages that the spec names.
    """
    named = (settings.source_language, settings.target_language)
    source, target = (tuple(filter(None, [language])) for language in named)
    aliases = {"source": (*source, *_SOURCES, *_CODES), "target": (*target, *_TARGETS, *_CODES)}
    return {
        DatasetFormat.TRANSLATION: Format(("translation",), (), _NESTED, NestedPairs(*named)),
        DatasetFormat.SOURCE_TARGET: Format(("source", "target"), (), _FLAT, _flat_pair, aliases),
    }


def _flat_pair(location: str, fields: dict[str, Any]) -> TranslationRow:
    """Return the row of `{source, target}`."""
    source, target = (as_text(location, name, fields[name]) for name in ("source", "target"))
    return TranslationRow(location, source=source, target=target)


class NestedPairs:
    """Reads rows like `{"translation": {"de": "...", "en": "..."}}`, all with the languages of the first one."""

    def __init__(self, source: str | None, target: str | None) -> None:
        """Read rows.

        Args:
            source: Key of the source; None takes it from the first row.
            target: Key of the target, likewise.
        """
        self._named = (source, target)
        self._languages: tuple[str, str] | None = None
        self._first = ""

    def __call__(self, location: str, fields: dict[str, Any]) -> TranslationRow:
        """Return the row.

        Raises:
            StageError: INVALID_DATASET.
        """
        pair = fields["translation"]
        if not isinstance(pair, dict):
            raise dataset_error(
                location,
                f"translation is {shown(pair)}, not an object with a text for each language",
                f"Write {_NESTED}; in a file with columns write spec.dataset.columns: "
                "{source: COLUMN, target: COLUMN} with the names of the columns of both texts",
            )
        if self._languages is None:
            self._languages, self._first = self._chosen(location, pair), location
        for language in self._languages:
            if language not in pair:
                raise self._without(location, language, pair)
        source, target = (as_text(location, f"translation.{name}", pair[name]) for name in self._languages)
        return TranslationRow(location, source=source, target=target, languages=self._languages)

    def _chosen(self, location: str, pair: Mapping[str, Any]) -> tuple[str, str]:
        """Return the languages of the source and of the target, by the first row."""
        source, target = self._named
        others = [language for language in pair if language not in self._named]
        if source is None and others:
            source = others.pop(0)
        if target is None and others:
            target = others.pop(0)
        if source is None or target is None or (others and None in self._named):
            keys = ", ".join(pair) or "no language"
            example = [*pair, "de", "en"][:2] if len(pair) > 1 else ["de", "en"]
            raise dataset_error(
                location,
                f"translation has {keys}: it is not known which text is the source and which the target",
                "Write both languages in each row, and spec.translation: "
                f"{{sourceLanguage: {example[0]}, targetLanguage: {example[1]}}}",
            )
        return source, target

    def _without(self, location: str, language: str, pair: Mapping[str, Any]) -> Exception:
        """Return the error for a row without one of the languages."""
        keys = ", ".join(pair) or "no language"
        if language in self._named:
            return dataset_error(
                location,
                f"translation has no {language} (it has {keys}), which spec.translation names",
                f"Write {{{', '.join(f'{name}: ...' for name in self._languages or ())}}}, or correct spec.translation",
            )
        return dataset_error(
            location,
            f"translation has no {language} (it has {keys}): the first row, {self._first}, has "
            f"{' and '.join(self._languages or ())}",
            "Give all rows the same two languages, or write the languages that all of them have as "
            "spec.translation: {sourceLanguage: ..., targetLanguage: ...}",
        )
