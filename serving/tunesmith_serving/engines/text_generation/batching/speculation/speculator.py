"""Which drafts a step checks."""

from collections.abc import Sequence as Items
from typing import Literal
from weakref import WeakKeyDictionary

from tunesmith_serving.engines.text_generation.batching.choosing import Advance
from tunesmith_serving.engines.text_generation.batching.sequence import Sequence
from tunesmith_serving.engines.text_generation.batching.slots import Slot
from tunesmith_serving.engines.text_generation.batching.speculation.draft_model import DraftModel
from tunesmith_serving.engines.text_generation.batching.speculation.lookup import PromptLookup
from tunesmith_serving.engines.text_generation.batching.speculation.plan import (
    AcceptanceRate,
    DraftPlan,
    StepCost,
    best_drafts,
    plan_drafts,
)
from tunesmith_serving.engines.text_generation.batching.speculation.stats import DraftCounts, SpeculationStats

DraftSource = Literal["lookup", "model"]
_Drafts = list[list[int]]

LOOKUP_SHARE = 0.5
"""How often drafts of a prompt must be right, compared with those of the draft model, to be preferred to them."""
MODEL_MEMORY = 0.995
"""Weight that a draft model's earlier drafts keep when another one is checked, in what is expected of a new answer."""


class _Row:
    """What is known of one request.

    Attributes:
        rates: How often the drafts of each source are right.
        source: Where the drafts of this step are from.
    """

    def __init__(self, sequence: Sequence, model_rate: float) -> None:
        self.rates: dict[DraftSource, AcceptanceRate] = {
            "lookup": AcceptanceRate(),
            "model": AcceptanceRate(model_rate),
        }
        self.source: DraftSource = "lookup"
        self._lookup = PromptLookup(sequence.prompt)
        self._known = 0

    @property
    def rate(self) -> float:
        """The chance of this step's drafts to be right."""
        return self.rates[self.source].value

    def propose(self, sequence: Sequence, count: int) -> list[int]:
        for token in sequence.answer[self._known :]:
            self._lookup.add(token)
        self._known = len(sequence.answer)
        return sequence.valid(self._lookup.propose(count)) if count > 0 else []


class Speculator:
    """Proposes drafts, as many as make the answers faster: by prompt lookup, else of a draft model.

    Attributes:
        draft_tokens: The most drafts of a request in a step; 0 for none.
    """

    def __init__(self, draft_tokens: int, most: int, model: DraftModel | None = None) -> None:
        """Start without knowledge.

        Args:
            draft_tokens: The most drafts of a request in a step; 0 for none.
            most: The most drafts of all requests in a step.
            model: The draft model, if there is one.
        """
        self.draft_tokens = draft_tokens
        self._model = model
        self._most = most
        self._cost = StepCost()
        self._rows: WeakKeyDictionary[Sequence, _Row] = WeakKeyDictionary()
        self._model_rate = AcceptanceRate(memory=MODEL_MEMORY)
        self._drafted: dict[DraftSource, int] = {"lookup": 0, "model": 0}
        self._accepted: dict[DraftSource, int] = {"lookup": 0, "model": 0}

    def stats(self) -> SpeculationStats:
        """Return what became of the drafts so far."""
        lookup, model = (DraftCounts(self._drafted[source], self._accepted[source]) for source in ("lookup", "model"))
        return SpeculationStats(lookup, model if self._model else None)

    def propose(self, slots: Items[Slot], room: int) -> _Drafts:
        """Return the drafts of each request for this step.

        Args:
            slots: The requests of the step.
            room: The most drafts that each row of the step has memory for.
        """
        rows = [self._row(slot.sequence) for slot in slots]
        limit = min(self.draft_tokens, room, self._most // max(1, len(rows)))
        counts = [max(0, min(limit, slot.sequence.room - 1)) for slot in slots]
        for row in rows:
            row.source = "lookup"
        rates = [row.rate for row in rows]
        # Searching takes time, too: it is not done if drafts would not pay even if all rows had them.
        found: _Drafts = [[] for _ in rows]
        if best_drafts(counts, rates, self._cost):
            pairs = zip(rows, slots, counts, strict=True)
            found = [row.propose(slot.sequence, count) for row, slot, count in pairs]
        plan = plan_drafts([len(draft) for draft in found], rates, self._cost)
        if self._model is not None and any(counts):
            drafts = self._with_model(self._model, slots, rows, counts, found, plan)
            if drafts is not None:
                return drafts
        return [draft[: plan.most] for draft in found]

    def record(self, sequences: Items[Sequence], drafts: Items[list[int]], results: Items[Advance]) -> None:
        """Learn from what became of the drafts."""
        for sequence, draft, result in zip(sequences, drafts, results, strict=True):
            row, accepted = self._row(sequence), result.tokens - 1
            for source, rate in row.rates.items():
                if not draft or source != row.source:
                    rate.skip()
                elif accepted == len(draft) or not result.ended:  # the end of an answer cuts drafts that may be right
                    rate.record(len(draft), accepted)
                    if source == "model":
                        self._model_rate.record(len(draft), accepted)
            self._drafted[row.source] += len(draft)
            self._accepted[row.source] += accepted
        if not any(draft and self._row(each).source == "model" for each, draft in zip(sequences, drafts, strict=True)):
            self._model_rate.skip()

    def timed(self, tokens: int, seconds: float) -> None:
        """Learn from how long a step took that computed so many tokens, padding included."""
        self._cost.record(tokens, seconds)

    def move(self, source: int, target: int) -> None:
        """Move a row to a free one."""
        if self._model is not None:
            self._model.move(source, target)

    def release(self, row: int) -> None:
        """Free a row whose request has ended."""
        if self._model is not None:
            self._model.release(row)

    def _with_model(
        self,
        model: DraftModel,
        slots: Items[Slot],
        rows: list[_Row],
        counts: list[int],
        found: _Drafts,
        plan: DraftPlan,
    ) -> _Drafts | None:
        """Return the drafts of a step in which the draft model computes, too; None if it does not pay.

        Args:
            model: The draft model.
            slots: The requests of the step.
            rows: What is known of them.
            counts: The most drafts of each.
            found: What prompt lookup has found.
            plan: What that alone gives.
        """
        wanted = []
        for row, count, draft in zip(rows, counts, found, strict=True):
            trusted = row.rates["lookup"].value >= LOOKUP_SHARE * row.rates["model"].value
            wanted.append(0 if draft and trusted else count)
        if not self._best(model, rows, wanted, found, plan):
            return None
        asked = [slot for slot, count in zip(slots, wanted, strict=True) if count]
        can = {slot.row for slot, is_ready in zip(asked, model.ready(asked), strict=True) if is_ready}
        wanted = [count if slot.row in can else 0 for slot, count in zip(slots, wanted, strict=True)]
        most = self._best(model, rows, wanted, found, plan)
        if not most:
            return None
        made = model.draft(slots, [min(count, most) for count in wanted])
        drafts: _Drafts = []
        for row, count, own, other in zip(rows, wanted, made, found, strict=True):
            row.source = "model" if count else "lookup"
            drafts.append(own if count else other[:most])
        return drafts

    def _best(self, model: DraftModel, rows: list[_Row], wanted: list[int], found: _Drafts, plan: DraftPlan) -> int:
        """Return the most drafts of a row in a step with the draft model; 0 if a step without it is as fast."""
        if not any(wanted):
            return 0
        lengths = [count or len(draft) for count, draft in zip(wanted, found, strict=True)]
        rates = [row.rates["model" if count else "lookup"].value for row, count in zip(rows, wanted, strict=True)]
        together = plan_drafts(lengths, rates, self._cost, lambda most: most * self._cost_of_draft(model, len(rows)))
        return together.most if together.speed > plan.speed else 0

    def _cost_of_draft(self, model: DraftModel, rows: int) -> float:
        """Return what a run of the draft model costs, in the unit of the steps' costs."""
        if self._cost.measured and model.cost.measured:
            return model.cost.of(rows)
        return model.share * self._cost.of(rows)

    def _row(self, sequence: Sequence) -> _Row:
        found = self._rows.get(sequence)
        if found is None:
            found = self._rows[sequence] = _Row(sequence, self._model_rate.value)
        return found
