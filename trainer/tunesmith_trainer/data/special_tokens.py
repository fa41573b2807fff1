"""Special tokens that a row's text contains already: they are not written twice, and they are noticed."""

from __future__ import annotations

import re
from typing import Any

# Tokens that end a turn in the templates of the common model families.
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<turn|>", "<|eot|>", "</s>", "<|endoftext|>")


def turn_ends(tokenizer: Any) -> tuple[str, ...]:  # noqa: ANN401 - transformers has no types
    """Return the tokens of a tokenizer that end a turn, its EOS token first."""
    known = tokenizer.get_vocab()
    return tuple(dict.fromkeys(token for token in (tokenizer.eos_token, *TURN_ENDS) if token and token in known))


class SpecialTokens:
    """The special tokens of a tokenizer, in the texts of rows."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401
        self._bos: str | None = tokenizer.bos_token
        self._eos: str | None = tokenizer.eos_token
        self._bos_id, self._eos_id = tokenizer.bos_token_id, tokenizer.eos_token_id
        self._adds_bos = self._bos_id is not None and tokenizer("a")["input_ids"][:1] == [self._bos_id]
        self._ends = turn_ends(tokenizer)
        added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        tokens = sorted({*tokenizer.all_special_tokens, *added} - {""}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, tokens))) if tokens else None

    def find(self, text: str) -> str | None:
        """Return the first special token in a text of a conversation, or None."""
        found = self._pattern.search(text) if self._pattern else None
        return found[0] if found else None

    def remove(self, text: str) -> str:
        """Return a text without special tokens."""
        return self._pattern.sub("", text) if self._pattern else text

    def find_inside(self, text: str) -> str | None:
        """Return the first special token within a plain text, or None. A BOS before it and an EOS after it are none."""
        return self.find(text.removeprefix(self._bos or "").rstrip().removesuffix(self._eos or ""))

    def complete(self, text: str, ids: list[int]) -> list[int]:
        """Return the ids of a plain text with one BOS token, if the tokenizer writes one, and one EOS token.

        Args:
            text: The text. It may begin with a BOS token, and end with a token that ends a text or a turn.
            ids: Its token ids, with the special tokens that the tokenizer adds.
        """
        if self._adds_bos and ids[:2] == [self._bos_id] * 2:
            ids = ids[1:]
        if self._eos_id is None:
            return ids
        ended = text.rstrip().endswith(self._ends)
        if ids[-1:] != [self._eos_id]:
            return ids if ended else [*ids, self._eos_id]
        added_twice = ids[-2:] == [self._eos_id] * 2 or (ended and not text.endswith(self._ends))
        return ids[:-1] if added_twice else ids
