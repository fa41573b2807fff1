"""Entities of tokens, joined as transformers' TokenClassificationPipeline joins them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_serving.engines.one_pass.text.tokenizer import TextTokenizer

Entity = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the text.

    Attributes:
        index: Its position in the text's encoding.
        id: Its number.
        text: How the vocabulary spells it.
        start: Its first character.
        end: The character after its last one.
        scores: The probability of each label.
    """

    index: int
    id: int
    text: str
    start: int
    end: int
    scores: npt.NDArray[np.float32]


class EntityMaker:
    """Joins tokens by an aggregation strategy."""

    def __init__(self, tokenizer: TextTokenizer, labels: Sequence[str], strategy: str) -> None:
        self._tokenizer = tokenizer
        self._labels = labels
        self._strategy = strategy

    def entities(self, text: str, tokens: Sequence[Token], ignored: Collection[str]) -> list[Entity]:
        """Return the entities of consecutive tokens; with the strategy `none` the tokens with their labels.

        Args:
            text: The text.
            tokens: Its tokens.
            ignored: Labels that are left out.
        """
        if self._strategy in ("none", "simple"):
            spelled = self._spelled(text, tokens) if tokens else []
            labelled = [self._labelled(token, word) for token, (word, _) in zip(tokens, spelled, strict=True)]
        else:
            labelled = self._words(text, tokens)
        key = "entity"
        if self._strategy != "none":
            labelled, key = self._grouped(labelled), "entity_group"
        found = [entity for entity in labelled if entity[key] not in ignored]
        for entity in found:
            entity["score"] = float(entity["score"])
        return found

    def _spelled(self, text: str, tokens: Sequence[Token]) -> list[tuple[str, bool]]:
        """Return how each token is written, and whether it continues a word."""
        found = []
        for token in tokens:
            written = text[token.start : token.end]
            if token.id == self._tokenizer.unknown:
                found.append((written, False))
            elif self._tokenizer.subword_prefix:
                found.append((token.text, len(token.text) != len(written)))
            else:
                continues = token.start > 0 and " " not in text[token.start - 1 : token.start + 1]
                found.append((token.text, continues))
        return found

    def _labelled(self, token: Token, word: str) -> Entity:
        likeliest = int(token.scores.argmax())
        return {
            "entity": self._labels[likeliest],
            "score": token.scores[likeliest],
            "index": token.index,
            "word": word,
            "start": token.start,
            "end": token.end,
        }

    def _words(self, text: str, tokens: Sequence[Token]) -> list[Entity]:
        """Return one label for each word, in which its tokens may disagree."""
        words: list[list[tuple[Token, str]]] = []
        for token, (spelled, continues) in zip(tokens, self._spelled(text, tokens), strict=True):
            if words and continues:
                words[-1].append((token, spelled))
            else:
                words.append([(token, spelled)])
        choose: dict[str, Callable[[list[npt.NDArray[np.float32]]], npt.NDArray[np.float32]]] = {
            "first": lambda scores: scores[0],
            "max": lambda scores: max(scores, key=lambda one: one.max()),
            "average": lambda scores: np.nanmean(np.stack(scores), axis=0),
        }
        found = []
        for word in words:
            scores = choose[self._strategy]([token.scores for token, _ in word])
            likeliest = int(scores.argmax())
            found.append(
                {
                    "entity": self._labels[likeliest],
                    "score": scores[likeliest],
                    "word": self._tokenizer.words([spelled for _, spelled in word]),
                    "start": word[0][0].start,
                    "end": word[-1][0].end,
                }
            )
        return found

    def _grouped(self, labelled: Sequence[Entity]) -> list[Entity]:
        """Return neighbours of one label as one entity; B- begins a new one."""
        groups: list[list[Entity]] = []
        last = ""
        for entity in labelled:
            begins, tag = tag_of(entity["entity"])
            if groups and tag == last and not begins:
                groups[-1].append(entity)
            else:
                groups.append([entity])
            last = tag
        return [
            {
                "entity_group": group[0]["entity"].split("-", 1)[-1],
                "score": np.nanmean([entity["score"] for entity in group]),
                "word": self._tokenizer.words([entity["word"] for entity in group]),
                "start": group[0]["start"],
                "end": group[-1]["end"],
            }
            for group in groups
        ]


def tag_of(label: str) -> tuple[bool, str]:
    """Return whether a label begins an entity, and its name; a label without a prefix continues one."""
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label


def without_overlaps(entities: Sequence[Entity]) -> list[Entity]:
    """Return the entities of overlapping windows: of two that overlap the longer, or the likelier."""
    found: list[Entity] = []
    for entity in sorted(entities, key=lambda one: one["start"]):
        if found and found[-1]["start"] <= entity["start"] < found[-1]["end"]:
            lengths = [one["end"] - one["start"] for one in (entity, found[-1])]
            if lengths[0] > lengths[1] or (lengths[0] == lengths[1] and entity["score"] > found[-1]["score"]):
                found[-1] = entity
        else:
            found.append(entity)
    return found
