"""What is kept of validation pairs besides their tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_trainer.data.encode import Encoded
from tunesmith_trainer.tasks.translation.rows import TranslationRow


@dataclass(frozen=True)
class TranslationPrompt:
    """A validation pair.

    Attributes:
        row: Its index in the store.
        location: File and line.
        prompt_ids: Token ids of the source.
        source: The text to translate.
        reference: Its translation.
        language: The translation's language; None if it is not known.
    """

    row: int
    location: str
    prompt_ids: list[int]
    source: str
    reference: str
    language: str | None = None


def evaluation_line(piece: Encoded, index: int, language: str | None) -> dict[str, Any]:
    """Return the line of evaluation.jsonl of a pair.

    Args:
        piece: The encoded pair.
        index: Its index in the store.
        language: The target's language; None if it is not known.
    """
    row = piece.row
    if not isinstance(row, TranslationRow):
        raise TypeError(f"{row.location} is no pair")
    return {
        "row": index,
        "location": row.location,
        "prompt_ids": piece.ids,
        "source": row.source,
        "reference": row.target,
        "language": language,
    }


def read_translation_prompts(path: Path, limit: int) -> list[TranslationPrompt]:
    """Return the first validation pairs; none if there is no file."""
    prompts: list[TranslationPrompt] = []
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            for line in file:
                if len(prompts) == limit:
                    break
                prompts.append(TranslationPrompt(**json.loads(line)))
    return prompts
