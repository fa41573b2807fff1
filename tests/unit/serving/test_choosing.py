"""Drafts of any kind leave the answers, and so their distribution, as they are."""

import math
import random
from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence as Items
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_serving.engines.text_generation.batching.choosing import advance
from tunesmith_serving.engines.text_generation.batching.constraint import ConstraintSource
from tunesmith_serving.engines.text_generation.batching.sequence import Sequence
from tunesmith_serving.engines.text_generation.batching.speculation.drawing import DraftRow, draw_drafts
from tunesmith_serving.engines.text_generation.batching.types import Event, GenerationRequest, SamplingParams

VOCABULARY = 4
# Logits after each token: a model whose answers are known exactly.
TABLE = np.log(np.random.default_rng(2).dirichlet(np.full(VOCABULARY, 1.5), VOCABULARY)).astype(np.float32)
OTHER = np.log(0.7 * np.exp(TABLE) + 0.3 / VOCABULARY).astype(np.float32)
END = 3
Drafts = Callable[[list[Sequence]], list[list[int]]]


class Letters:
    """A tokenizer of letters."""

    def decode(self, ids: Items[int]) -> str:
        return "".join("abcd"[token] for token in ids)


def start(
    options: dict[str, Any],
    events: list[Event] | None = None,
    stops: bool = False,
    constraint: ConstraintSource | None = None,
) -> Sequence:
    request = GenerationRequest((0,), SamplingParams(**options), constraint=constraint)
    sink = (lambda _: None) if events is None else events.append
    sequence = Sequence(request, sink, Letters(), frozenset({END} if stops else ()), 64, lambda _: None)
    sequence.last_token = 0
    return sequence


def generate(sequences: list[Sequence], draft: random.Random | Drafts | None) -> list[int]:
    """Run requests to their ends; return how many steps each took. Some drafts are right, as when drawn at random."""
    steps = [0] * len(sequences)
    running = list(range(len(sequences)))
    while running:
        rows = [sequences[index] for index in running]
        if isinstance(draft, random.Random):
            drafts = [draft.choices(range(VOCABULARY), k=min(draft.randint(0, 4), row.room - 1)) for row in rows]
        else:
            drafts = draft(rows) if draft else [[] for _ in rows]
        inputs = [token for row, given in zip(rows, drafts, strict=True) for token in (row.last_token, *given)]
        results = advance(rows, drafts, TABLE[inputs])
        assert all(1 <= one.tokens <= len(given) + 1 for one, given in zip(results, drafts, strict=True))
        for index in running:
            steps[index] += 1
        running = [index for index, one in zip(running, results, strict=True) if not one.ended]
    return steps


OPTIONS = st.fixed_dictionaries(
    {"max_tokens": st.integers(1, 20), "temperature": st.sampled_from([0, 0.7, 1.0]), "seed": st.integers(0, 9)},
    optional={
        "top_k": st.integers(1, 3),
        "top_p": st.just(0.8),
        "min_p": st.just(0.1),
        "frequency_penalty": st.just(0.3),
        "repetition_penalty": st.just(1.4),
        "stop": st.just(("ab", "cc")),
        "logprobs": st.just(2),
    },
)


@given(st.lists(st.tuples(OPTIONS, st.booleans()), min_size=1, max_size=6), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_any_drafts_give_the_same_answers(requests: list[tuple[dict[str, Any], bool]], draft: random.Random) -> None:
    found = []
    for drafts in (None, draft):
        events: list[list[Event]] = [[] for _ in requests]
        sequences = [start(options, got, stops) for (options, stops), got in zip(requests, events, strict=True)]
        generate(sequences, drafts)
        for sequence in sequences:
            sequence.flush()
        assert [row.answer for row in sequences] == [list(got[0].token_ids) for got in events]
        found.append(events)
    assert found[0] == found[1]


def drawn(rows: list[Sequence], table: np.ndarray | None = None) -> list[list[int]]:
    """Drafts of another model that is a little like this one, drawn as a draft model's are."""
    logits = OTHER if table is None else table
    drafts = [DraftRow(row, min(2, row.room - 1)) for row in rows]
    for _ in range(2):
        going = [each for each in drafts if len(each.drafts) < min(2, each.sequence.room - 1)]
        if going:
            draw_drafts(going, logits[[(each.drafts or [each.sequence.last_token])[-1] for each in going]])
    return [each.drafts for each in drafts]


@pytest.mark.parametrize("by", [random.Random(1), drawn], ids=["at random", "drawn by another model"])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.6}, {"top_p": 0.75}, {"frequency_penalty": 0.8}], ids=str)
def test_answers_with_drafts_have_the_models_distribution(options: dict[str, Any], by: Any) -> None:
    """Pearson's test over all answers of three tokens, with fixed seeds."""
    count, length = 6000, 3
    sequences = [start({**options, "max_tokens": length, "seed": seed}) for seed in range(count)]
    steps = generate(sequences, by)
    assert sum(steps) < 0.9 * count * length, "some drafts are right"
    seen = Counter(tuple(sequence.answer) for sequence in sequences)
    statistic, freedom = 0.0, -1
    for answer in product(range(VOCABULARY), repeat=length):
        chance, last, counts = 1.0, 0, [0] * VOCABULARY
        for token in answer:
            chance *= expected(last, counts, options)[token]
            last = token
            counts[token] += 1
        if chance * count < 5:
            assert seen[answer] <= chance * count + 6 * math.sqrt(chance * count) + 3
            continue
        statistic += (seen[answer] - chance * count) ** 2 / (chance * count)
        freedom += 1
    assert freedom >= 8
    # The statistic has mean `freedom` and variance 2 * `freedom`.
    assert statistic < freedom + 4 * math.sqrt(2 * freedom)


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.6, "top_k": 3}, {"top_p": 0.75}, {"temperature": 0}], ids=str
)
def test_the_same_random_numbers_draw_the_same_tokens_of_the_same_model(options: dict[str, Any]) -> None:
    sequences = [start({**options, "max_tokens": 6, "seed": seed}) for seed in range(200)]
    steps = generate(sequences, lambda rows: drawn(rows, TABLE))
    assert steps == [2] * 200  # of three tokens each


def expected(last: int, counts: list[int], options: dict[str, Any]) -> np.ndarray:
    """The distribution after a token, computed in the simplest way."""
    logits = TABLE[last] - options.get("frequency_penalty", 0) * np.asarray(counts)
    weights = np.exp(logits.astype(np.float64) / options.get("temperature", 1.0))
    weights /= weights.sum()
    order = np.argsort(-weights)
    keep = order[: int((np.cumsum(weights[order]) < options.get("top_p", 1.0)).sum()) + 1]
    kept = np.zeros(VOCABULARY)
    kept[keep] = weights[keep]
    return kept / kept.sum()


def test_a_value_that_is_not_a_number_ends_the_request() -> None:
    events: list[Event] = []
    sequence = start({"temperature": 0, "max_tokens": 5}, events)
    logits = np.full((3, VOCABULARY), np.nan, np.float32)
    (result,) = advance([sequence], [[1, 2]], logits)
    sequence.flush()
    assert (result.tokens, result.ended, events[-1].finish_reason) == (1, True, "error")


class Alternating:
    """Allows tokens of one parity after those of the other."""

    done = False

    def __init__(self) -> None:
        self._parity = 0

    def start(self) -> "Alternating":
        return Alternating()

    def allow(self, logits: np.ndarray) -> None:
        logits[1 - self._parity :: 2] = -np.inf

    def accept(self, token: int) -> None:
        assert token % 2 == self._parity
        self._parity = 1 - self._parity

    def valid(self, tokens: Items[int]) -> int:
        return 0

    def fork(self) -> "Alternating":
        raise NotImplementedError


@pytest.mark.parametrize("seed", range(20))
def test_tokens_of_a_constrained_answer_are_those_that_it_gets_alone(seed: int) -> None:
    """With log probabilities each row is sampled by itself; without, with the others."""
    options = {"max_tokens": 12, "temperature": 1.0, "seed": seed}
    constrained = [start(options | more, constraint=Alternating()) for more in ({}, {"logprobs": 0}, {"top_k": 2})]
    free = [start(options | {"seed": seed + index}) for index in range(3)]
    alone = start(options)
    generate([constrained[0], free[0], constrained[1], free[1], constrained[2], free[2]], None)
    generate([alone], None)
    assert constrained[0].answer == constrained[1].answer
    assert [token % 2 for token in constrained[2].answer] == [0, 1] * 6
    assert free[0].answer == alone.answer
