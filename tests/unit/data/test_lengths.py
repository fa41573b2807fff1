"""Rows that are too long: texts are cut, conversations lose their oldest turns, and what remains is counted."""

from typing import Any

import pytest

from support.tiny_models import train_tokenizer
from tunesmith_api.failures import StageError
from tunesmith_trainer.data.encode import Encoder, split_exchanges
from tunesmith_trainer.data.rows import Row, Turn


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer()


def talk(exchanges: int, words: int = 5) -> tuple[Turn, ...]:
    """A conversation whose numbered exchanges can be told apart."""
    turns = [Turn("system", "Be kind.", False)]
    for number in range(exchanges):
        turns.append(Turn("user", f"question {number} " + "dog " * words, False))
        turns.append(Turn("assistant", f"answer {number} " + "fox " * words, True))
    return tuple(turns)


def test_conversation_keeps_the_system_turn_and_as_many_exchanges_as_fit(tokenizer: Any) -> None:
    full = len(next(iter(Encoder(tokenizer, 10_000).encode([Row("f:1", talk(20))])))[0].ids)
    for limit in range(100, full + 10, 37):
        encoder = Encoder(tokenizer, limit)
        [[piece]] = encoder.encode([Row("f:1", talk(20))])
        assert len(piece.ids) <= limit
        assert piece.row.turns[0].role == "system"
        assert piece.row.turns[-1].content.startswith("answer 19")
        assert encoder.log.truncated == int(limit < full)
        if limit < full:  # one more exchange would not have fitted
            kept = len(piece.row.turns) // 2
            longer = (talk(20)[0], *talk(20)[-2 * (kept + 1) :])
            [[more]] = Encoder(tokenizer, 10_000).encode([Row("f:1", longer)])
            assert len(more.ids) > limit


def test_conversation_whose_last_exchange_is_too_long_is_skipped(tokenizer: Any) -> None:
    encoder = Encoder(tokenizer, 100)
    rows = [Row("f:1", talk(1)), Row("f:2", talk(1, 100)), Row("f:3", talk(3, 100)), Row("f:4", talk(1))]
    assert [len(pieces) for pieces in encoder.encode(rows)] == [1, 0, 0, 1]
    assert (encoder.log.skipped, encoder.log.truncated) == (2, 0)


def test_conversation_that_ends_with_a_question_keeps_an_answer_or_is_skipped(tokenizer: Any) -> None:
    turns = (*talk(3), Turn("user", "dog " * 60, False))
    encoder = Encoder(tokenizer, 60)
    assert list(encoder.encode([Row("f:1", turns)])) == [[]]
    assert encoder.log.skipped == 1


def test_text_is_cut_and_nothing_is_lost(tokenizer: Any) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 30
    encoder = Encoder(tokenizer, 50)
    [pieces] = encoder.encode([Row("f:1", text=text)])
    assert all(len(piece.ids) == 50 for piece in pieces[:-1])
    assert all(piece.mask == [1] * len(piece.ids) for piece in pieces)
    ids = [token for piece in pieces for token in piece.ids]
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids[:-1]) == text
    assert encoder.log.truncated == 1


def test_many_rows_keep_their_order(tokenizer: Any) -> None:
    rows = [Row(f"f:{number}", text=f"row number {number} of many") for number in range(600)]
    decoded = [tokenizer.decode(pieces[0].ids[:-1]) for pieces in Encoder(tokenizer, 50).encode(rows)]
    assert decoded == [row.text for row in rows]


def test_single_token_text_is_refused(tokenizer: Any) -> None:
    tokenizer = train_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(StageError, match="f:1: the text is a single token"):
        list(Encoder(tokenizer, 50).encode([Row("f:1", text="a")]))


def test_exchanges() -> None:
    roles = ["assistant", "user", "user", "assistant", "tool", "assistant", "user"]
    turns = [Turn(role, "x", False) for role in roles]
    assert [[turn.role for turn in group] for group in split_exchanges(turns)] == [
        ["assistant"],
        ["user", "user", "assistant", "tool", "assistant"],
        ["user"],
    ]
