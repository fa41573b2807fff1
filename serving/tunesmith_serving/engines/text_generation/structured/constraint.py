"""A compiled grammar, and the state of one answer that follows it."""

import threading
from collections.abc import Sequence
from typing import Any

from tunesmith_serving.engines.text_generation.batching.constraint import Constraint, ConstraintError
from tunesmith_serving.engines.text_generation.structured.masks import Mask, MaskThread, Row
from tunesmith_serving.engines.text_generation.structured.reading import advise


class GrammarConstraint:
    """What the tokens of one answer may be.

    The mask for the next token is computed as soon as a token is accepted, beside the model's next step.

    Attributes:
        done: Whether the answer is complete, so that only an end-of-sequence token may follow.
    """

    def __init__(self, matcher: Any, masks: MaskThread, vocab_size: int, first: Mask) -> None:  # noqa: ANN401
        self.done = False
        self._matcher = matcher
        self._masks = masks
        self._vocab_size = vocab_size
        self._mask = first
        self._error = ""
        self._ready = threading.Event()
        self._ready.set()

    def allow(self, logits: Row) -> None:
        """Set the logits, shape [vocabulary], of all tokens that may not come next to minus infinity, in place.

        Raises:
            ConstraintError: It takes too long to find out which these are.
        """
        self._ready.wait()
        if self._error:
            raise ConstraintError(self._error)
        self._mask.apply(logits)

    def accept(self, token: int) -> None:
        """Go on after a token that was allowed.

        Raises:
            ConstraintError: The grammar cannot be followed any further.
        """
        self._ready.wait()
        try:
            accepted = self._matcher.consume_token(token)
        except BaseException as error:  # a panic of Rust is no Exception; it must not end the batcher
            raise ConstraintError(_problem(str(error))) from None
        if not accepted:
            raise ConstraintError(_problem(self._matcher.get_error()))
        self.done = self._matcher.is_stopped()
        if not self.done:
            self._ready.clear()
            self._masks.submit(self._compute)

    def valid(self, tokens: Sequence[int]) -> int:
        """Return how many of these tokens may come next, one after the other."""
        self._ready.wait()
        if self._error or self.done:
            return 0
        try:
            return int(self._matcher.validate_tokens(list(tokens)))
        except BaseException:  # a panic of Rust is no Exception; the next token says what is wrong
            return 0

    def fork(self) -> Constraint:
        """Return a copy in the same state, to look ahead with.

        Raises:
            ConstraintError: The grammar cannot be followed any further.
        """
        self._ready.wait()
        if self._error:
            raise ConstraintError(self._error)
        return GrammarConstraint(self._matcher.deep_copy(), self._masks, self._vocab_size, self._mask)

    def _compute(self) -> None:
        try:
            self._mask, self._error = compute_mask(self._matcher, self._vocab_size)
        except BaseException as error:  # a panic of Rust is no Exception; it must not end the thread
            self._error = _problem(str(error))
        finally:
            self._ready.set()


class CompiledGrammar:
    """A compiled grammar, which any number of answers may follow at the same time.

    Attributes:
        error: Why no answer can begin; empty if one can.
    """

    def __init__(self, matcher: Any, masks: MaskThread, vocab_size: int) -> None:  # noqa: ANN401
        self._matcher = matcher
        self._masks = masks
        self._vocab_size = vocab_size
        # All answers begin in the same state.
        self._first, self.error = compute_mask(matcher, vocab_size)
        self._lock = threading.Lock()

    def start(self) -> Constraint:
        """Return the constraint at the beginning of an answer."""
        with self._lock:
            matcher = self._matcher.deep_copy()
        return GrammarConstraint(matcher, self._masks, self._vocab_size, self._first)


def compute_mask(matcher: Any, vocab_size: int) -> tuple[Mask, str]:  # noqa: ANN401
    """Return the mask for the next token, and why there is none; empty if there is one."""
    mask = Mask(matcher.compute_bitmask(), vocab_size)
    # After an error, the library allows the end of the answer, though it is not complete.
    error = matcher.get_error() or ("NoExtension" if mask.empty else "")
    return mask, _problem(error) if error else ""


def _problem(message: str) -> str:
    """Return what is wrong with the grammar of an answer that was begun, and what to simplify."""
    advice = advise(message)
    more = "" if "; " in advice else "; simplify it: use fewer alternatives, optional parts and intersections"
    return f"the grammar of the answer cannot be followed any further: {advice}{more}"
