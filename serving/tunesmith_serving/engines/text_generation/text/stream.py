"""Streaming text: complete characters only, and nothing that may be the beginning of a stop string."""

from collections.abc import Sequence
from typing import Protocol

REPLACEMENT = "\ufffd"
# A character has at most four bytes; decoders turn an incomplete one into one U+FFFD, or one for each of its bytes.
MAX_CHARACTER_BYTES = 4
CONTEXT_TOKENS = 6
"""Tokens of a prompt that decide, at the most, on how the text after them begins."""


class Decoder(Protocol):
    """Turns token ids into text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids; incomplete characters become U+FFFD."""


class _ShowingDecoder:
    """Decodes with some special tokens as text."""

    def __init__(self, decoder: Decoder, shown: dict[int, str]) -> None:
        self._decoder = decoder
        self._shown = shown

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids; incomplete characters become U+FFFD."""
        text, start = "", 0
        for place, token in enumerate(ids):
            if token in self._shown:
                text += self._decoder.decode(ids[start:place]) + self._shown[token]
                start = place + 1
        return text + self._decoder.decode(ids[start:])


def show_tokens(decoder: Decoder, shown: Sequence[tuple[int, str]]) -> Decoder:
    """Return a decoder that writes some special tokens, given with their texts, instead of leaving them out."""
    return _ShowingDecoder(decoder, dict(shown)) if shown else decoder


class IncrementalDetokenizer:
    """Returns the text that each new token adds; the pieces together are the text of all tokens.

    Only a short window is decoded each time: the tokens of the last complete text, which decoders need for the
    space between words, and those after it. U+FFFD at the window's end may be a character whose bytes are still to
    come, so it is held back.
    """

    def __init__(self, decoder: Decoder, before: Sequence[int] = ()) -> None:
        """Begin after some tokens, whose text is not returned.

        Args:
            decoder: Turns tokens into text.
            before: The last tokens of what the text continues.
        """
        self._decoder = decoder
        text = decoder.decode(before) if before else ""
        # Of characters that are cut, decoders make something else with what follows them.
        self._context: list[int] = [] if REPLACEMENT in text else list(before)
        self._context_text = "" if REPLACEMENT in text else text
        self._new: list[int] = []
        self._emitted = 0

    def push(self, token_id: int) -> str:
        """Add a token and return the text that has become certain."""
        self._new.append(token_id)
        tail = self._tail()
        held = min(MAX_CHARACTER_BYTES - 1, len(tail) - len(tail.rstrip(REPLACEMENT)))
        if held and len(self._new) < MAX_CHARACTER_BYTES:
            # Byte-fallback decoders show whole characters before an incomplete one as U+FFFD too: wait for its end.
            return ""
        stable = tail[: len(tail) - held]
        piece = stable[self._emitted :]
        self._emitted = max(self._emitted, len(stable))
        if held:
            return piece
        if tail:
            self._context = self._new
            self._context_text = self._decoder.decode(self._context)
        else:
            # No text of its own, as a space that decoders strip from the beginning: what follows still depends on it.
            self._context = self._context + self._new
        self._new, self._emitted = [], 0
        return piece

    def flush(self) -> str:
        """Return the text that was held back, at the end of the answer."""
        piece = self._tail()[self._emitted :]
        self._emitted += len(piece)
        return piece

    def _tail(self) -> str:
        return self._decoder.decode(self._context + self._new)[len(self._context_text) :]


class StopMatcher:
    """Finds the first stop string in text that comes in pieces, and holds back what may be the beginning of one."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._held = ""

    def push(self, piece: str) -> tuple[str, bool]:
        """Return the text that can be sent, and whether a stop string was found; the text then ends before it."""
        if not self._stop or not piece:
            return piece, False
        text = self._held + piece
        cuts = [index for index in (text.find(stop) for stop in self._stop) if index >= 0]
        if cuts:
            self._held = ""
            return text[: min(cuts)], True
        keep = max(_overlap(text, stop) for stop in self._stop)
        cut = len(text) - keep
        self._held = text[cut:]
        return text[:cut], False

    def flush(self) -> str:
        """Return the text that was held back, when the answer ends without a stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest suffix of `text` that is a proper prefix of `stop`."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
