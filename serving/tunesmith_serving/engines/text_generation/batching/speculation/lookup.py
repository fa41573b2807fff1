"""Drafts by prompt lookup: what followed the last tokens where they were before, in the prompt or the answer."""

import numpy as np
import numpy.typing as npt

IDS = npt.NDArray[np.int64]

MIN_MATCH = 2
"""Fewest tokens that must be the same for what followed them to be a draft."""
MAX_MATCH = 8
"""Longer matches are not told apart: the latest is taken."""


class PromptLookup:
    """The tokens of one request, prompt and answer, searched for what its last tokens were followed by."""

    def __init__(self, prompt: IDS) -> None:
        """Take the prompt, shape [tokens]."""
        self._tokens = np.empty(len(prompt) + 256, np.int64)
        self._tokens[: len(prompt)] = prompt
        self._length = len(prompt)

    def add(self, token: int) -> None:
        """Add a token of the answer."""
        if self._length == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.empty_like(self._tokens)])
        self._tokens[self._length] = token
        self._length += 1

    def propose(self, count: int) -> list[int]:
        """Return up to `count` tokens that may come next; none if the last tokens are new.

        The longest match is taken, of equally long ones the latest. Where a match reaches into its own continuation,
        the text repeats, and the draft goes on repeating it.
        """
        length, tokens = self._length, self._tokens
        if count < 1 or length <= MIN_MATCH:
            return []
        ends = np.flatnonzero(tokens[: length - 1] == tokens[length - 1])
        matched = 1
        while matched < MAX_MATCH and len(ends):
            longer = ends[ends >= matched]
            longer = longer[tokens[longer - matched] == tokens[length - 1 - matched]]
            if not len(longer):
                break
            ends, matched = longer, matched + 1
        if matched < MIN_MATCH or not len(ends):
            return []
        start = int(ends[-1]) + 1
        found = tokens[start : min(start + count, length)].tolist()
        while len(found) < count:
            found.append(found[len(found) - (length - start)])
        return found
