"""What is kept of validation rows besides their tokens: what a server is asked about them, and what is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_trainer.data.documents import document_line, read_documents
from tunesmith_trainer.data.encode import Encoded
from tunesmith_trainer.tasks.token_classification.rows import SpansRow, TaggedRow
from tunesmith_trainer.tasks.token_classification.tags import entity_of


@dataclass(frozen=True)
class TagPrompt:
    """A validation row.

    Attributes:
        row: Index of its first piece in the store.
        pieces: Number of its pieces.
        location: File and line.
        prompt_ids: Tokens of its first piece.
        inputs: What a server is asked: a text, or `{tokens: [...]}`.
        tags: The tag of each word, of a row of words.
        entities: `[start, end, label]` of each entity, of a text.
        reference: The entities as a text.
    """

    row: int
    pieces: int
    location: str
    prompt_ids: list[int]
    inputs: Any
    tags: Sequence[str]
    entities: Sequence[Sequence[Any]]
    reference: str


def evaluation_line(piece: Encoded, index: int, is_first_piece: bool) -> dict[str, Any]:
    """Return the line of evaluation.jsonl of a piece of a row."""
    row, told = piece.row, dict[str, Any]()
    if is_first_piece and isinstance(row, TaggedRow):
        told = {"inputs": {"tokens": list(row.words)}, "tags": list(row.tags), "reference": _shown(row.words, row.tags)}
    elif is_first_piece and isinstance(row, SpansRow):
        entities = [[entity.start, entity.end, entity.label] for entity in row.entities]
        reference = "; ".join(f"{entity.label}: {row.text[entity.start : entity.end]}" for entity in row.entities)
        told = {"inputs": row.text, "entities": entities, "reference": reference}
    return document_line(piece, index, is_first_piece, told)


def _shown(words: Sequence[str], tags: Sequence[str]) -> str:
    """Return the entities of words as a text; of tags without prefixes all of them."""
    if not any(entity_of(tag) for tag in tags):
        return " ".join(tags) if any(tag != "O" for tag in tags) else ""
    found: list[str] = []
    for word, tag in zip(words, tags, strict=True):
        if tag.startswith("B-"):
            found.append(f"{entity_of(tag)}: {word}")
        elif entity_of(tag) and found:
            found[-1] += f" {word}"
    return "; ".join(found)


def read_tag_prompts(path: Path, limit: int) -> list[TagPrompt]:
    """Return the first validation rows."""
    return [
        TagPrompt(
            first["row"],
            len(lines),
            first["location"],
            first["prompt_ids"],
            first["inputs"],
            first.get("tags", ()),
            first.get("entities", ()),
            first["reference"],
        )
        for lines in read_documents(path, limit)
        for first in lines[:1]
    ]
