"""The tags of words: read as they are written in files, and in BIO from there on.

`B-PER` begins an entity, `I-PER` goes on with it, `O` is outside of any. IOBES, BILOU and IOB1 mark the same entities
in other ways and are read as BIO. Tags without prefixes, such as parts of speech, are labels of words and mark no
entities.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tunesmith_trainer.data.errors import dataset_error, shown
from tunesmith_trainer.data.lists import as_list

OUTSIDE = "O"
_KINDS = {"B": "B", "I": "I", "E": "I", "S": "B", "L": "I", "U": "B", "M": "I"}
PREFIXES = tuple(f"{kind}-" for kind in _KINDS)
_NAMES = 'Write the names: {"tokens": ["Ada", "came"], "tags": ["B-PER", "O"]}'


def read_tags(location: str, given: Sequence[Any], names: Any) -> tuple[tuple[str, ...], int]:  # noqa: ANN401
    """Return the tags of a row in BIO, and how many of them were an `I-` that begins an entity.

    Args:
        location: Location of the row.
        given: A tag for each word.
        names: The names of the tags by their numbers; None if they are written as names.

    Raises:
        StageError: INVALID_DATASET: a tag is not a name, or in no scheme that is known.
    """
    known = as_list(location, "names", names, '"names": ["O", "B-PER", "I-PER"]') if names is not None else None
    tags = [_name(location, f"tags[{index}]", tag, known) for index, tag in enumerate(given)]
    if not any(_is_marked(tag) for tag in tags):
        return tuple(tags), 0
    return _in_bio(location, tags)


def _name(location: str, field: str, tag: Any, names: list[Any] | None) -> str:  # noqa: ANN401 - any JSON value
    if isinstance(tag, str) and tag.strip() and not tag.strip().lstrip("-").isdecimal():
        return tag.strip()
    if isinstance(tag, str) and tag.strip():
        tag = int(tag)
    if isinstance(tag, bool) or not isinstance(tag, int):
        state = "null" if tag is None else "empty" if tag == "" else f"{shown(tag)}, not a tag"
        raise dataset_error(location, f"{field} is {state}", f'{_NAMES}; words that are no entity have "{OUTSIDE}"')
    if names is None:
        raise dataset_error(
            location,
            f"{field} is the number {tag}, and the file does not say what it stands for: BIO has names",
            f'{_NAMES}, or add the list of all names to each row: "names": ["O", "B-PER", "I-PER"] '
            '(in Python: dataset.features["ner_tags"].feature.names)',
        )
    if not 0 <= tag < len(names) or not isinstance(names[tag], str) or not names[tag].strip():
        problem = f"{field} is {tag}, and names has no name for it (it has {len(names)})"
        raise dataset_error(location, problem, "Write all names into names, in the order of their numbers from 0")
    return str(names[tag]).strip()


def _is_marked(tag: str) -> bool:
    return tag.startswith(PREFIXES) and len(tag) > 2


def _in_bio(location: str, tags: list[str]) -> tuple[tuple[str, ...], int]:
    """Return tags of which at least one has a prefix in BIO."""
    found: list[str] = []
    mended = 0
    for index, tag in enumerate(tags):
        if tag == OUTSIDE:
            found.append(tag)
            continue
        if not _is_marked(tag):
            raise dataset_error(
                location,
                f"tags[{index}] is {shown(tag)}, which is not BIO as the others are",
                f'Write "B-NAME" for the first word of an entity, "I-NAME" for its others, "{OUTSIDE}" for all else',
            )
        kind, name = _KINDS[tag[0]], tag[2:]
        if kind == "I" and (not found or entity_of(found[-1]) != name or tags[index - 1][0] in "ELSU"):
            kind = "B"
            mended += 1
        found.append(f"{kind}-{name}")
    return tuple(found), mended


def entity_of(tag: str) -> str:
    """Return the name of the entity that a tag in BIO belongs to; empty for none."""
    return tag[2:] if tag.startswith(("B-", "I-")) else ""


def labels_of(names: Iterable[str]) -> list[str]:
    """Return the labels for entities of some names in BIO, `O` first. Each has both `B-` and `I-`."""
    return [OUTSIDE, *(f"{kind}-{name}" for name in sorted(set(names)) for kind in "BI")]
