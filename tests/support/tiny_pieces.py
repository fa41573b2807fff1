"""Vocabularies of tiny WordPiece tokenizers: the same for the same texts.

The trainer of `tokenizers` breaks ties in the order of a hash map, which is another one in each process. A random model
then has other token ids and other answers each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

_LONGEST = 8


def word_piece(normalizer: Any, pre_tokenizer: Any, lines: Sequence[str], special: Sequence[str], most: int) -> Any:
    """A WordPiece model (of `tokenizers`) with at most `most` tokens, or as many as there are characters."""
    from tokenizers import models

    words = [word for line in lines for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(line))]
    counts = _pieces(words)
    tokens = [*special, *_best(counts, most - len(special))]
    return models.WordPiece({token: index for index, token in enumerate(tokens)}, unk_token="[UNK]")


def _pieces(words: Sequence[str]) -> Counter[str]:
    """How often each part of a word occurs; `##` is put before parts that do not begin the word."""
    counts: Counter[str] = Counter()
    for word in words:
        for start in range(len(word)):
            for end in range(start + 1, min(len(word), start + _LONGEST) + 1):
                counts[("##" if start else "") + word[start:end]] += 1
    return counts


def _best(counts: Counter[str], most: int) -> list[str]:
    """All single characters, and then what saves the most tokens."""
    length = {piece: len(piece.removeprefix("##")) for piece in counts}
    single = sorted(piece for piece in counts if length[piece] == 1)
    longer = sorted(
        (piece for piece in counts if length[piece] > 1),
        key=lambda piece: (-counts[piece] * (length[piece] - 1), piece),
    )
    return single + longer[: max(0, most - len(single))]
