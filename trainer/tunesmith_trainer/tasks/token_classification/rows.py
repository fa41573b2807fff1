"""Rows of words with their tags, and of texts with their entities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunesmith_api.spec import DatasetFormat
from tunesmith_trainer.data.conversation import as_text
from tunesmith_trainer.data.errors import dataset_error, shown
from tunesmith_trainer.data.formats import Format, Formats
from tunesmith_trainer.data.lists import as_list, as_offset
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.tasks.token_classification.tags import OUTSIDE, PREFIXES, read_tags

Fields = dict[str, Any]

_TOKENS = '"tokens": ["Ada", "came"]'
_TAGS = '"tags": ["B-PER", "O"]'
_SPANS = '"spans": [{"start": 0, "end": 3, "label": "PER"}]'


@dataclass(frozen=True)
class Entity:
    """An entity in a text.

    Attributes:
        start: Its first character, from 0.
        end: The character after its last one.
        label: What it is.
    """

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class TaggedRow(Row):
    """A row of words with a tag each.

    Attributes:
        words: The words.
        tags: Their tags: in BIO, or names without a prefix such as parts of speech.
        mended: Number of tags `I-` at the beginning of an entity, which became `B-`.
    """

    words: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    mended: int = 0

    @property
    def texts(self) -> list[str]:
        """The words and the tags."""
        return [*self.words, *self.tags]

    @property
    def question(self) -> list[str]:
        """The words."""
        return list(self.words)

    @property
    def learned(self) -> str:
        """The tags."""
        return " ".join(self.tags)

    @property
    def characters(self) -> int:
        """Number of characters, with a space between two words."""
        return sum(map(len, self.words)) + len(self.words) - 1


@dataclass(frozen=True)
class SpansRow(Row):
    """A text with its entities.

    Attributes:
        entities: The entities, in the order of the text. They do not overlap.
    """

    entities: tuple[Entity, ...] = ()

    @property
    def texts(self) -> list[str]:
        """The text, and what is marked in it."""
        return [self.text, *(f"{one.start}:{one.end}:{one.label}" for one in self.entities)]

    @property
    def question(self) -> list[str]:
        """The text."""
        return [self.text]

    @property
    def learned(self) -> str:
        """The entities."""
        found = [f"{one.label}: {self.text[one.start : one.end]}" for one in self.entities]
        return "; ".join(found) or "no entity"

    @property
    def characters(self) -> int:
        """Number of characters of the text."""
        return len(self.text)


def read_token_tags(location: str, fields: Fields) -> TaggedRow:
    """Return a checked row of words and tags.

    Raises:
        StageError: INVALID_DATASET, with the field and what to write instead.
    """
    words = as_list(location, "tokens", fields["tokens"], f"{{{_TOKENS}, {_TAGS}}}")
    given = as_list(location, "tags", fields["tags"], f"{{{_TOKENS}, {_TAGS}}}")
    if not words:
        raise dataset_error(location, "tokens is empty", "Write the words, or remove the row")
    if len(words) != len(given):
        more, fewer = ("tokens", "tags") if len(words) > len(given) else ("tags", "tokens")
        counts = {"tokens": len(words), "tags": len(given)}
        raise dataset_error(
            location,
            f"{more} has {counts[more]} entries, {fewer} {counts[fewer]}",
            f'Write one tag for each word; words that are no entity have "{OUTSIDE}"',
        )
    texts = tuple(_word(location, index, word) for index, word in enumerate(words))
    tags, mended = read_tags(location, given, fields.get("names"))
    return TaggedRow(location, words=texts, tags=tags, mended=mended)


def _word(location: str, index: int, word: Any) -> str:  # noqa: ANN401 - any JSON value
    if isinstance(word, float) and not isinstance(word, bool):
        word = repr(word)
    field = f"tokens[{index}]"
    if word is None or (isinstance(word, str) and not word.strip()):
        state = "null" if word is None else "empty"
        raise dataset_error(location, f"{field} is {state}", "Remove it together with its tag, or write the word")
    if isinstance(word, list | dict):
        raise dataset_error(location, f"{field} is {shown(word)}, not a word", f"Write {_TOKENS}")
    return as_text(location, field, word)


def read_text_spans(location: str, fields: Fields) -> SpansRow:
    """Return a checked row of a text and its entities.

    Raises:
        StageError: INVALID_DATASET, with the field and what to write instead.
    """
    text = as_text(location, "text", fields["text"])
    given = as_list(location, "spans", fields["spans"], _SPANS)
    found = [(_entity(location, f"spans[{index}]", span, text), index) for index, span in enumerate(given)]
    found.sort(key=lambda pair: (pair[0].start, pair[0].end))
    for (first, index), (second, later) in zip(found, found[1:], strict=False):
        if second.start < first.end:
            raise dataset_error(
                location,
                f"spans[{later}] ({second.start} to {second.end}, {second.label}) overlaps spans[{index}] "
                f"({first.start} to {first.end}, {first.label})",
                "Keep one of the two, usually the longer: each character belongs to one entity at most",
            )
    return SpansRow(location, text=text, entities=tuple(entity for entity, _ in found))


def _entity(location: str, field: str, span: Any, text: str) -> Entity:  # noqa: ANN401 - any JSON value
    if isinstance(span, list) and len(span) == 3:
        span = dict(zip(("start", "end", "label"), span, strict=True))
    missing = [name for name in ("start", "end", "label") if name not in span] if isinstance(span, dict) else ["start"]
    if missing:
        problem = f"{field}.{missing[0]} is missing" if isinstance(span, dict) else f"{field} is {shown(span)}, no span"
        raise dataset_error(location, problem, f'Write {_SPANS}; start and end count characters, "end" is excluded')
    start, end = (as_offset(location, f"{field}.{name}", span[name]) for name in ("start", "end"))
    if end <= start:
        raise dataset_error(
            location,
            f"{field} begins at {start} and ends at {end}, so it is empty",
            "Write the character after its last one as end, or remove the span",
        )
    if end > len(text):
        raise dataset_error(
            location,
            f"{field}.end is {end}, outside the text of {len(text)} characters",
            "Count characters (code points, as Python does) from 0, not bytes, or correct the span",
        )
    label = as_text(location, f"{field}.label", span["label"]).strip()
    if label == OUTSIDE or label.startswith(PREFIXES):
        name = label[2:] or "PER"
        raise dataset_error(
            location,
            f"{field}.label is {shown(label)}, a tag of a word and not the name of an entity",
            f'Write the name alone, such as "{name}", and no span for what is no entity',
        )
    marked = text[start:end]
    if not marked.strip():
        raise dataset_error(location, f"{field} marks white space only", "Correct start and end, or remove the span")
    if isinstance(span.get("text"), str) and span["text"] != marked:
        raise dataset_error(location, f"{field} marks {shown(marked)}, not {shown(span['text'])}", _where(span, text))
    return Entity(start, end, label)


def _where(span: Fields, text: str) -> str:
    places = [place for place in range(len(text)) if text.startswith(span["text"], place)] if span["text"] else []
    if not places:
        return "Correct start and end, or the span's text"
    nearest = min(places, key=lambda place: abs(place - int(span["start"])))
    return f"Write start: {nearest} and end: {nearest + len(span['text'])}, where the text has it"


FORMATS: Formats = {
    DatasetFormat.TOKEN_TAGS: Format(
        ("tokens", "tags"),
        ("names",),
        f"{{{_TOKENS}, {_TAGS}}}",
        read_token_tags,
        {
            "tokens": ("tokens", "words", "sentence", "text"),
            "tags": ("tags", "ner_tags", "labels", "ner", "pos_tags", "upos", "chunk_tags"),
        },
    ),
    DatasetFormat.TEXT_SPANS: Format(
        ("text", "spans"),
        (),
        f'{{"text": "Ada came", {_SPANS}}}',
        read_text_spans,
        {"spans": ("spans", "entities", "label", "labels", "ents", "annotations")},
    ),
}
