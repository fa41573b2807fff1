"""Cuts a long text into pieces between words, as training does with its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def cut(tokens: int, beginnings: Sequence[int], room: int) -> tuple[list[tuple[int, int]], bool]:
    """Return the pieces of a text, first token and the one after the last, and whether tokens were lost.

    A piece ends before the last beginning that leaves it no longer than `room`. Where there is none, as in a word of
    hundreds of tokens, tokens up to the next beginning are lost.

    Args:
        tokens: Tokens of the text, without special tokens.
        beginnings: The tokens before which it can be cut, ascending.
        room: Largest number of tokens of a piece.
    """
    if tokens <= room:
        return [(0, tokens)], False
    pieces, lost, start, last = [], False, 0, 0
    for end in (*(index for index in beginnings if index > 0), tokens):
        if end - start > room and last > start:
            pieces.append((start, last))
            start = last
        if end - start > room:
            lost = True
            pieces.append((start, start + room))
            start = end
        last = end
    if last > start:
        pieces.append((start, last))
    return pieces, lost


def first_tokens(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Return the first token of each word that has one.

    Args:
        words: Words that are joined by one space each.
        offsets: Where the tokens of this text are.
    """
    found: list[int] = []
    token = start = 0
    for word in words:
        end = start + len(word)
        while token < len(offsets) and (offsets[token][1] <= start or offsets[token][0] == offsets[token][1]):
            token += 1
        if token < len(offsets) and offsets[token][0] < end:
            found.append(token)
            token += 1
        start = end + 1
    return found


def framed(encoding: Any, text: int = 0) -> tuple[int, int]:  # noqa: ANN401 - tokenizers.Encoding
    """Return the place of the first token of a text in an encoding, and the one after its last.

    Args:
        encoding: The encoding.
        text: 0 for the first text, 1 for the second.
    """
    own = [index for index, sequence in enumerate(encoding.sequence_ids) if sequence == text]
    return (own[0], own[-1] + 1) if own else (0, 0)
