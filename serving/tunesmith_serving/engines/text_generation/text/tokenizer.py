"""Encoding and decoding with the artifact's tokenizer.json."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer as HfTokenizer

from tunesmith_serving.runtime.errors import ArtifactError


class Tokenizer:
    """The `tokenizers` library over one tokenizer.json."""

    def __init__(self, definition: str) -> None:
        """Load from the text of a tokenizer.json.

        Raises:
            ArtifactError: It is not one.
        """
        try:
            self._tokenizer: Any = HfTokenizer.from_str(definition)
            decoder = json.dumps(json.loads(definition).get("decoder") or {})
        except Exception as error:  # tokenizers raises bare Exception
            raise ArtifactError(f"tokenizer.json cannot be loaded: {error}; export the model again") from None
        # A tokenizer.json may hold the truncation or padding of training; a server needs neither.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._prefix = _leading_special_tokens(self._tokenizer)
        self._byte_level = '"ByteLevel"' in decoder
        self.token_bytes = lru_cache(maxsize=65_536)(self._token_bytes)

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """Return the token ids of a text.

        Args:
            text: The text; special tokens in it are recognized.
            add_special_tokens: Whether the special tokens that the tokenizer puts before a text are added, such as BOS.
                A text that begins with them gets no second ones. Those for the end of a text are never added, because
                the model is to continue it.

        Raises:
            ValueError: The text holds lone surrogates, which no tokenizer can encode.
        """
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("the text holds a lone surrogate (half a character); send whole characters") from None
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        if add_special_tokens and ids[: len(self._prefix)] != self._prefix:
            return self._prefix + ids
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Return the text of token ids; incomplete characters become U+FFFD."""
        try:
            text: str = self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
        except OverflowError:  # numbers that no vocabulary has are left out, like others that this one has not
            text = self._tokenizer.decode([i for i in ids if _is_id(i)], skip_special_tokens=skip_special_tokens)
        return text

    def token(self, token_id: int) -> str:
        """Return a token as the vocabulary spells it; empty if there is no such token."""
        return (self._tokenizer.id_to_token(token_id) if _is_id(token_id) else None) or ""

    @property
    def vocab_size(self) -> int:
        """Number of tokens, including added ones."""
        size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        return size

    def vocabulary(self) -> dict[str, int]:
        """Return all tokens with their ids, including added ones."""
        found: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return found

    def token_id(self, token: str) -> int | None:
        """Return the id of a token, or None if there is no such token."""
        index: int | None = self._tokenizer.token_to_id(token)
        return index

    def special_token_id(self, token: str) -> int | None:
        """Return the id of a special token, which `decode` leaves out; None if the text is no such token."""
        index = self.token_id(token)
        return index if index in self.special_ids() else None

    def definition(self) -> str:
        """Return the text of a tokenizer.json, without truncation and padding."""
        text: str = self._tokenizer.to_str()
        return text

    def special_ids(self) -> frozenset[int]:
        """Return the ids of the tokens that are no part of a text, such as EOS."""
        added = self._tokenizer.get_added_tokens_decoder()
        return frozenset(index for index, token in added.items() if token.special)

    def is_added(self, token_id: int) -> bool:
        """Whether a token was added to the vocabulary as a whole, such as `<|im_end|>`."""
        return token_id in self._tokenizer.get_added_tokens_decoder()

    def _token_bytes(self, token_id: int) -> bytes:
        """Return the UTF-8 bytes of a token, which may be part of a character; a special token gives its name."""
        token: str | None = self._tokenizer.id_to_token(token_id)
        if token is None:
            return b""
        if self._byte_level:
            table = byte_level_table()
            if all(character in table for character in token):
                return bytes(table[character] for character in token)
            return token.encode()
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes.fromhex(token[3:5])
        return token.replace("\u2581", " ").encode()


def _leading_special_tokens(tokenizer: Any) -> list[int]:  # noqa: ANN401 - tokenizers carries no types
    """Return the ids of the special tokens that the tokenizer puts before a text."""
    encoding = tokenizer.encode("a", add_special_tokens=True)
    added = encoding.special_tokens_mask
    count = added.index(0) if 0 in added else 0
    ids: list[int] = encoding.ids[:count]
    return ids


@lru_cache(maxsize=1)
def byte_level_table() -> dict[str, int]:
    """Return GPT-2's map of printable characters to bytes: bytes without a glyph are mapped from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in set(printable))
    table.update({chr(256 + index): byte for index, byte in enumerate(others)})
    return table


def _is_id(number: int) -> bool:
    return 0 <= number < 1 << 32
