"""Which drafts a step checks."""

from collections.abc import Sequence as Items
from weakref import WeakKeyDictionary

from tunesmith_serving.engines.text_generation.batching.choosing import Advance
from tunesmith_serving.engines.text_generation.batching.sequence import Sequence
from tunesmith_serving.engines.text_generation.batching.speculation.lookup import PromptLookup
from tunesmith_serving.engines.text_generation.batching.speculation.plan import AcceptanceRate, StepCost, best_drafts


class _Row:
    """What is known of one request."""

    def __init__(self, sequence: Sequence) -> None:
        self.rate = AcceptanceRate()
        self._lookup = PromptLookup(sequence.prompt)
        self._known = 0

    def propose(self, sequence: Sequence, count: int) -> list[int]:
        for token in sequence.answer[self._known :]:
            self._lookup.add(token)
        self._known = len(sequence.answer)
        return self._lookup.propose(count)


class Speculator:
    """Proposes drafts by prompt lookup, as many as make the answers faster.

    Attributes:
        draft_tokens: The most drafts of a request in a step; 0 for none.
        drafted: Drafts that were checked so far.
        accepted: Those of them that were right.
    """

    def __init__(self, draft_tokens: int, most: int) -> None:
        """Start without knowledge.

        Args:
            draft_tokens: The most drafts of a request in a step; 0 for none.
            most: The most drafts of all requests in a step.
        """
        self.draft_tokens = draft_tokens
        self.drafted = 0
        self.accepted = 0
        self._most = most
        self._cost = StepCost()
        self._rows: WeakKeyDictionary[Sequence, _Row] = WeakKeyDictionary()

    def propose(self, sequences: Items[Sequence], room: int) -> list[list[int]]:
        """Return the drafts of each request for this step.

        Args:
            sequences: The requests of the step.
            room: The most drafts that each row of the step has memory for.
        """
        rows = [self._row(sequence) for sequence in sequences]
        limit = min(self.draft_tokens, room, self._most // max(1, len(rows)))
        counts = [min(limit, sequence.room - 1) if sequence.may_draft else 0 for sequence in sequences]
        rates = [row.rate.value for row in rows]
        # Searching takes time, too: it is not done if drafts would not pay even if all rows had them.
        found: list[list[int]] = [[] for _ in rows]
        if best_drafts(counts, rates, self._cost):
            pairs = zip(rows, sequences, counts, strict=True)
            found = [row.propose(sequence, count) if count > 0 else [] for row, sequence, count in pairs]
        best = best_drafts([len(draft) for draft in found], rates, self._cost)
        return [draft[:best] for draft in found]

    def record(self, sequences: Items[Sequence], drafts: Items[list[int]], results: Items[Advance]) -> None:
        """Learn from what became of the drafts."""
        for sequence, draft, result in zip(sequences, drafts, results, strict=True):
            rate, accepted = self._row(sequence).rate, result.tokens - 1
            if not draft:
                rate.skip()
            elif accepted == len(draft) or not result.ended:  # the end of an answer cuts drafts that may be right
                rate.record(len(draft), accepted)
            self.drafted += len(draft)
            self.accepted += accepted

    def timed(self, tokens: int, seconds: float) -> None:
        """Learn from how long a step took that computed so many tokens, padding included."""
        self._cost.record(tokens, seconds)

    def _row(self, sequence: Sequence) -> _Row:
        found = self._rows.get(sequence)
        if found is None:
            found = self._rows[sequence] = _Row(sequence)
        return found
