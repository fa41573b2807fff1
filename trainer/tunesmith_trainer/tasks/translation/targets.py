"""What the pairs of a data set have in common: their languages, and whether they are translated at all."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tunesmith_api.spec import TranslationSpec
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.targets import Facts, Targets
from tunesmith_trainer.tasks.translation.rows import TranslationRow

log = logging.getLogger(__name__)


class PairTargets(Targets):
    """Notes the languages, and counts pairs of equal texts."""

    def __init__(self, settings: TranslationSpec) -> None:
        """Look at rows.

        Args:
            settings: The languages that the spec names.
        """
        self._named = (settings.source_language, settings.target_language)
        self._languages: tuple[str | None, str | None] = self._named
        self._rows = self._equal = 0
        self._first = ""

    def add(self, row: Row) -> None:
        """Add a row."""
        if not isinstance(row, TranslationRow):
            raise TypeError(f"{row.location} is no pair")
        self._languages = row.languages or self._named
        self._rows += 1
        if row.source.strip() == row.target.strip():
            self._equal += 1
            self._first = self._first or row.location

    def facts(self) -> Facts:
        """Return the languages: `{sourceLanguage, targetLanguage}`, None where they are not known."""
        if self._equal * 2 > self._rows:
            log.warning(
                "source and target are equal in %d of %d rows, the first is %s: nothing is translated there",
                self._equal,
                self._rows,
                self._first,
            )
        return dict(zip(("sourceLanguage", "targetLanguage"), self._languages, strict=True))

    def report(self) -> Mapping[str, Any]:
        """Return how many pairs have equal texts."""
        return {"equalPairs": {"rows": self._equal, "examples": [self._first] if self._first else []}}
