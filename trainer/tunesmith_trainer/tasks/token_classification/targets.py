"""The labels of all rows of a data set, and what is wrong with them as a whole."""

from __future__ import annotations

import logging
from typing import Any

from tunesmith_trainer.data.errors import dataset_error
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.targets import Facts, Targets
from tunesmith_trainer.tasks.token_classification.rows import SpansRow, TaggedRow
from tunesmith_trainer.tasks.token_classification.tags import OUTSIDE, entity_of, labels_of

log = logging.getLogger(__name__)

_BIO = f'Write "B-NAME" for the first word of an entity, "I-NAME" for its others, "{OUTSIDE}" for all else'


class TagTargets(Targets):
    """Collects the names of entities, or of tags without prefixes."""

    def __init__(self) -> None:
        self._entities: dict[str, str] = {}  # name: location of its first row
        self._plain: dict[str, str] = {}
        self._outside = ""  # location of the first row with O
        self._mended = 0
        self._first_mended = self._first = ""
        self._seen: set[str] = set()

    def add(self, row: Row) -> None:
        """Add a training row."""
        self._first = self._first or row.location
        self._note_mended(row)
        for tag in dict.fromkeys(_tags(row)):
            if name := entity_of(tag):
                self._entities.setdefault(name, row.location)
            elif tag == OUTSIDE:
                self._outside = self._outside or row.location
            else:
                self._plain.setdefault(tag, row.location)

    def add_validation(self, row: Row) -> None:
        """Add a validation row."""
        self._note_mended(row)
        for tag in dict.fromkeys(_tags(row)):
            if tag not in self._seen:
                self._seen.add(tag)
                self._check(tag, row)

    def _note_mended(self, row: Row) -> None:
        if isinstance(row, TaggedRow) and row.mended:
            self._first_mended = self._first_mended or row.location
            self._mended += row.mended

    def _check(self, tag: str, row: Row) -> None:
        """Fail if no training row has the tag.

        Raises:
            StageError: INVALID_DATASET.
        """
        name = entity_of(tag)
        if name in self._entities or tag in self._plain or (tag == OUTSIDE and not self._plain):
            return
        known = sorted(self._entities) or sorted(self._plain)
        field = "spans" if isinstance(row, SpansRow) else "tags"
        what = f"the entity {name}" if name else f"the tag {tag}"
        raise dataset_error(
            row.location,
            f"{field}: {what} is in no training row (they have {', '.join(known[:20])})",
            "Correct the name, add rows with it to spec.dataset.sources, or remove it from the validation rows",
        )

    def facts(self) -> Facts:
        """Return `{labels, scheme}`: the labels in the order of their numbers, and whether they are `bio` or `plain`.

        Raises:
            StageError: INVALID_DATASET: there is nothing to tell apart, or the tags are in no scheme.
        """
        if self._entities and self._plain:
            tag, location = next(iter(self._plain.items()))
            marked, other = next(iter(self._entities.items()))
            problem = f"tags: {tag} has no prefix, while {other} has tags as B-{marked} (BIO)"
            raise dataset_error(location, problem, _BIO)
        if self._plain and self._outside:
            tag, location = next(iter(self._plain.items()))
            raise dataset_error(
                location,
                f"tags: {tag} has no prefix beside the tag {OUTSIDE}, so it is open where an entity begins",
                f"{_BIO}; if these are no entities but, say, parts of speech, give {OUTSIDE} another name",
            )
        if len(self._plain) == 1 or not (self._entities or self._plain):
            only = next(iter(self._plain), OUTSIDE)
            what = "no entity" if only == OUTSIDE else f"the tag {only} only"
            raise dataset_error(
                self._first,
                f"this row and all others have {what}: there is nothing to learn",
                "Add rows with entities to spec.dataset.sources" if only == OUTSIDE else "Add rows with other tags",
            )
        if self._mended:
            log.warning(
                "%d tags I- that begin an entity were read as B-; the first is in %s", self._mended, self._first_mended
            )
        found: dict[str, Any] = {"labels": sorted(self._plain), "scheme": "plain"}
        return {"labels": labels_of(self._entities), "scheme": "bio"} if self._entities else found


def _tags(row: Row) -> list[str]:
    if isinstance(row, TaggedRow):
        return list(row.tags)
    return [OUTSIDE, *(f"B-{entity.label}" for entity in row.entities)] if isinstance(row, SpansRow) else []
