"""Drafts by prompt lookup, and how many of them a step checks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith_serving.engines.text_generation.batching.speculation.lookup import PromptLookup
from tunesmith_serving.engines.text_generation.batching.speculation.plan import (
    AcceptanceRate,
    StepCost,
    best_drafts,
    plan_drafts,
)


def lookup(prompt: list[int], answer: list[int] | None = None) -> PromptLookup:
    found = PromptLookup(np.asarray(prompt, np.int64))
    for token in answer or []:
        found.add(token)
    return found


@pytest.mark.parametrize(
    ("tokens", "draft"),
    [
        ([1, 2, 3, 4, 5, 1, 2], [3, 4, 5]),
        ([1, 2, 3, 1, 2, 4, 1, 2], [4, 1, 2]),  # the latest of two
        ([9, 1, 2, 3, 8, 1, 2, 4, 9, 1, 2], [3, 8, 1]),  # a longer match before a later one
        ([5, 1, 6, 1], []),  # one token is no match
        ([1, 2, 3], []),
        ([7, 7, 7], [7, 7, 7]),
        ([1, 2, 1, 2, 1], [2, 1, 2]),  # a repetition goes on
        ([1], []),
        ([], []),
    ],
)
def test_what_followed_before_is_the_draft(tokens: list[int], draft: list[int]) -> None:
    assert lookup(tokens).propose(3) == draft
    for cut in range(len(tokens)):
        assert lookup(tokens[:cut], tokens[cut:]).propose(3) == draft
    assert lookup(tokens).propose(0) == []


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 6))
def test_a_draft_has_followed_the_same_tokens(tokens: list[int], count: int) -> None:
    draft = lookup(tokens).propose(count)
    assert len(draft) in (0, count)
    if draft:
        longest = max(
            end for start in range(2, len(tokens)) for end in range(2, 9)
             if end <= start and tokens[start - end : start] == tokens[len(tokens) - end :]
        )  # fmt: skip
        again = [*tokens, *draft]
        # Somewhere before, the last `longest` tokens are followed by the draft.
        assert any(
            again[start - longest : start] == tokens[len(tokens) - longest :] and again[start : start + count] == draft
            for start in range(longest, len(tokens))
        )


def test_an_answer_that_outgrows_the_first_buffer() -> None:
    assert lookup([1, 2, 3], [*range(100, 900), 2, 3]).propose(2) == [100, 101]


def test_the_rate_follows_what_drafts_do() -> None:
    rate = AcceptanceRate()
    first = rate.value
    for _ in range(10):
        rate.record(4, 4)
    assert rate.value > 0.9 > first
    for _ in range(25):
        rate.record(4, 0)
    assert rate.value < 0.3
    for _ in range(200):
        rate.skip()
    assert rate.value == pytest.approx(first, abs=0.01)


def test_drafts_after_the_first_wrong_one_say_nothing() -> None:
    one, many = AcceptanceRate(), AcceptanceRate()
    one.record(1, 0)
    many.record(8, 0)
    assert one.value == many.value


def cost_of(fixed: float, each: float) -> StepCost:
    cost = StepCost()
    for step in range(200):
        tokens = 1 + step % 12
        cost.record(tokens, fixed + each * tokens)
    return cost


def test_costs_are_learned() -> None:
    cost = cost_of(8.0, 0.5)
    assert cost.of(16) / cost.of(1) == pytest.approx(16 / 8.5, rel=0.05)
    for step in range(60):
        tokens = 1 + step % 12
        cost.record(tokens, 1000.0 if step % 7 == 0 else 8.0 + 0.5 * tokens)  # something else had the processor
    assert cost.of(16) / cost.of(1) == pytest.approx(16 / 8.5, rel=0.25)


def test_steps_of_one_size_alone_leave_the_first_guess() -> None:
    cost = StepCost()
    for _ in range(100):
        cost.record(1, 0.01)
    assert cost.of(5) / cost.of(1) == pytest.approx(2 / 1.2, rel=0.01)


@pytest.mark.parametrize(
    ("drafts", "rates", "cost", "best"),
    [
        ([8], [0.99], (8.0, 0.5), 8),
        ([8], [0.7], (8.0, 0.5), 4),
        ([8], [0.05], (8.0, 0.5), 0),
        ([0], [0.99], (8.0, 0.5), 0),
        ([3], [0.99], (8.0, 0.5), 3),
        ([8] * 8, [0.99] * 8, (8.0, 0.5), 8),
        ([8, *[0] * 7], [0.99] * 8, (2.0, 2.0), 0),  # padding seven rows for one costs more than it gives
        ([8] * 8, [0.3] * 8, (2.0, 2.0), 0),
    ],
)
def test_as_many_drafts_as_pay(drafts: list[int], rates: list[float], cost: tuple[float, float], best: int) -> None:
    found = best_drafts(drafts, rates, cost_of(*cost))
    assert abs(found - best) <= (1 if 0 < best < 8 else 0)
    assert found <= max(drafts)


def test_a_draft_model_must_be_fast_enough() -> None:
    cost = cost_of(8.0, 0.5)
    for drafting, most in ((0.1, 8), (1.0, 6), (4.0, 3), (9.0, 0)):
        plan = plan_drafts([8], [0.9], cost, lambda count, each=drafting: count * each)
        assert abs(plan.most - most) <= (1 if 0 < most < 8 else 0)
    assert plan_drafts([8], [0.9], cost).speed > plan_drafts([8], [0.9], cost, lambda count: count).speed


def test_what_is_known_of_a_draft_model_is_expected_of_the_next_answer() -> None:
    overall = AcceptanceRate(memory=0.99)
    for _ in range(200):
        overall.record(4, 0)
    answer = AcceptanceRate(overall.value)
    assert answer.value == overall.value < 0.1
    for _ in range(20):
        answer.record(4, 4)
    assert answer.value > 0.8
