"""Checks that the tokens that are learned are the answers: by decoding them, apart from the code that made the mask."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.data.encode import Encoded
from tunesmith_trainer.data.special_tokens import turn_ends

_SHORTEST = 4  # characters of a turn that can be searched for without finding it by chance


class TargetCheck:
    """Compares the learned tokens of conversations with the text of their turns.

    Attributes:
        tokenizer: The model's tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - transformers has no types
        self.tokenizer = tokenizer
        self._ends = set(tokenizer.convert_tokens_to_ids(list(turn_ends(tokenizer))))

    def check(self, encoded: Encoded) -> None:
        """Fail if a row's mask does not cover the assistant's turns, the whole of them and nothing else.

        Raises:
            StageError: INVALID_MODEL; the message says where and which turn.
        """
        self._check_beginning(encoded)
        if not encoded.row.turns:
            return
        self._check_ends(encoded)
        runs = self._runs(encoded)
        learned = "".join(runs)
        everything = self._text(encoded.ids)
        said = [_plain(turn.text) for turn in encoded.row.turns if turn.target]
        for name in (call["function"]["name"] for turn in encoded.row.turns if turn.target for call in turn.calls):
            if _plain(name) not in learned:
                raise _error(encoded, f"the assistant's call of {name} is not learned")
        for turn in encoded.row.turns:
            text = _plain(turn.content)
            if text not in everything:  # the template writes it differently
                continue
            if turn.target and text not in learned:
                raise _error(encoded, f"the assistant's turn {turn.content[:60]!r} is not learned in full")
            is_learned = len(text) >= _SHORTEST and any(text in run for run in runs)
            if not turn.target and is_learned and not any(text in one for one in said):
                raise _error(encoded, f"the {turn.role}'s turn {turn.content[:60]!r} is learned as an answer")

    def _check_beginning(self, encoded: Encoded) -> None:
        bos = self.tokenizer.bos_token_id
        if bos is not None and encoded.ids[:2] == [bos, bos]:
            raise _error(encoded, f"the row begins with the BOS token {self.tokenizer.bos_token} twice")

    def _check_ends(self, encoded: Encoded) -> None:
        """Fail if an answer is learned without the token that ends it: the model would never stop."""
        rows = list(zip(encoded.ids, encoded.mask, strict=True))
        for (token, target), (following, next_target) in pairwise(rows):
            if target and not next_target and token not in self._ends and following in self._ends:
                name = self.tokenizer.convert_ids_to_tokens(following)
                raise _error(encoded, f"the token {name} that ends the assistant's turn is not learned")

    def _runs(self, encoded: Encoded) -> list[str]:
        """Return the texts of the learned tokens that follow one another: a text of two answers is said nowhere."""
        pairs = zip(encoded.mask, encoded.ids, strict=True)
        runs = ([token for _, token in run] for target, run in groupby(pairs, lambda pair: bool(pair[0])) if target)
        return [self._text(run) for run in runs]

    def _text(self, ids: list[int]) -> str:
        return _plain(self.tokenizer.decode(ids, skip_special_tokens=True))


def _plain(text: str) -> str:
    """Return a text without white space, which templates and tokenizers change."""
    return "".join(text.split())


def _error(encoded: Encoded, problem: str) -> StageError:
    return StageError(
        Reason.INVALID_MODEL,
        f"{encoded.row.location}: {problem}",
        "Put {% generation %} around the assistant's turns, with the token that ends them, in the model's "
        "chat_template.jinja",
    )
