"""Rows with two answers: every shape is read alike, and every bad row is refused with what to write instead."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.tiny_models import train_tokenizer
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import DatasetFormat
from tunesmith_trainer.data.encode import Encoder
from tunesmith_trainer.data.encoding_log import Outcome
from tunesmith_trainer.data.formats import RowParser
from tunesmith_trainer.data.pairs import EncodedPair, PairEncoder, packed, unpacked
from tunesmith_trainer.data.preferences import PREFERENCE_FORMATS, PreferenceRow
from tunesmith_trainer.data.rows import Row, Turn
from tunesmith_trainer.data.token_store import TokenStore, TokenStoreWriter

ASKED = {"role": "user", "content": "Hello?"}
GOOD = {"role": "assistant", "content": "Hi, how can I help?"}
BAD = {"role": "assistant", "content": "What now?"}
KIND = {"role": "system", "content": "Be kind."}
TOKENIZER = train_tokenizer()


def parse(row: dict[str, Any], columns: dict[str, str] | None = None) -> PreferenceRow:
    parsed = RowParser(DatasetFormat.AUTO, columns, PREFERENCE_FORMATS).parse("f:1", row)
    assert isinstance(parsed, PreferenceRow)
    return parsed


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASKED["content"], "chosen": GOOD["content"], "rejected": BAD["content"]},
        {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": [ASKED], "chosen": GOOD["content"], "rejected": [BAD]},
        {"prompt": json.dumps([ASKED]), "chosen": json.dumps([GOOD]), "rejected": json.dumps([BAD])},
        {"prompt": ASKED["content"], "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD], "prompt": None, "score_chosen": 8.5},
        {"input": {"messages": [ASKED]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
    ],
)
def test_all_shapes_are_the_same_row(row: dict[str, Any]) -> None:
    parsed = parse(row)
    asked, good = Turn("user", ASKED["content"], False), Turn("assistant", GOOD["content"], True)
    assert parsed.turns == (asked, good)
    assert parsed.rejected == Turn("assistant", BAD["content"], True)
    assert parsed.rejected_row.turns == (asked, parsed.rejected)


def test_columns_with_other_names_are_read() -> None:
    row = {"question": "a", "better": "b", "worse": "c"}
    parsed = parse(row, {"prompt": "question", "chosen": "better", "rejected": "worse"})
    assert [turn.content for turn in (*parsed.turns, parsed.rejected)] == ["a", "b", "c"]


OPENAI = {"input": {"messages": [ASKED]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]}
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": "a", "chosen": "b", "rejected": "b"}, "chosen and rejected are equal", "remove the row"),
    ({"chosen": [ASKED, GOOD], "rejected": [ASKED, GOOD]}, "chosen and rejected are equal", "Correct one of them"),
    ({**OPENAI, "non_preferred_output": [GOOD]}, "preferred_output and non_preferred_output are equal", "Correct one"),
    ({"prompt": "a", "chosen": "", "rejected": "b"}, "chosen is empty", "Write its text"),
    ({"prompt": "a", "chosen": "b", "rejected": "  "}, "rejected is empty", "Write its text"),
    ({"prompt": "a", "chosen": "b", "rejected": None}, "rejected is null", "Write its text"),
    ({"prompt": "a", "chosen": "b", "rejected": 1.5}, "rejected is 1.5, not a text", "in quotes"),
    ({"chosen": "b", "rejected": "c"}, "there is no prompt that it answers", "Write the prompt in a column of its own"),
    ({"question": "a", "chosen": "b", "rejected": "c"}, "there is no prompt", "columns: {prompt: question}"),
    ({"prompt": "a", "accepted": "b", "rejected": "c"}, "not recognised", "columns: {chosen: accepted}"),
    ({"prompt": [ASKED, GOOD], "chosen": "b", "rejected": "c"}, "prompt ends with a turn of the assistant", "End it"),
    ({"prompt": [KIND], "chosen": "b", "rejected": "c"}, "prompt has a system turn alone", "user's turn after it"),
    ({"chosen": [ASKED, GOOD], "rejected": [KIND, BAD]}, "begin with different turns", "Begin both with the same"),
    (
        {"chosen": [ASKED, GOOD, ASKED, BAD], "rejected": [ASKED, BAD]},
        "chosen must be one turn of the assistant, and it has assistant, user, assistant",
        "Write the turns before the last answer into the prompt",
    ),
    ({"chosen": [ASKED, GOOD], "rejected": [ASKED, GOOD, ASKED, BAD]}, "ends with a turn of the assistant", "End it"),
    ({"prompt": [ASKED], "chosen": [ASKED], "rejected": [BAD]}, "chosen must be one turn", "that answer alone"),
    ({"prompt": [ASKED], "chosen": [], "rejected": [BAD]}, "chosen must be one turn", "that answer alone"),
    ({"prompt": [{"role": "robot", "content": "x"}], "chosen": "a", "rejected": "b"}, "prompt[0].role", "one of"),
    ({**OPENAI, "input": "Hello"}, "input is 'Hello', not an object", '{"messages"'),
    ({**OPENAI, "input": {"message": []}}, "input.messages is missing", '{"messages"'),
    ({**OPENAI, "input": {"messages": []}}, "input.messages is empty", "at least a user's turn"),
    ({**OPENAI, "input": {"messages": [ASKED], "tools": [{"type": "function"}]}}, "input.tools", "Remove tools"),
    ({**OPENAI, "preferred_output": [GOOD, GOOD]}, "preferred_output must be one turn", "that answer alone"),
    ({"prompt": "a", "completion": "b"}, "not recognised", "preference: chosen, rejected"),
]


@pytest.mark.parametrize(("row", "problem", "remedy"), WRONG)
def test_a_bad_row_says_where_what_and_what_instead(row: dict[str, Any], problem: str, remedy: str) -> None:
    with pytest.raises(StageError) as caught:
        parse(row)
    assert caught.value.reason is Reason.INVALID_DATASET
    assert caught.value.message.startswith("f:1: ")
    assert problem in caught.value.message
    assert remedy in caught.value.remedy


def test_supervised_rows_may_be_preference_data_of_openai() -> None:
    with pytest.raises(StageError, match="this is preference data") as caught:
        RowParser(DatasetFormat.AUTO, None).parse("f:1", OPENAI)
    assert "objective: dpo" in caught.value.remedy
    columns = {"prompt": "input.messages", "completion": "preferred_output"}
    assert "{prompt: input.messages, completion: preferred_output}" in caught.value.remedy
    row = RowParser(DatasetFormat.AUTO, columns).parse("f:1", OPENAI)
    assert [turn.content for turn in row.turns] == [ASKED["content"], GOOD["content"]]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from([ASKED, GOOD, BAD]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["role", "content", "messages"]), inner)
    ),
    max_leaves=8,
)
TURNS = st.lists(st.sampled_from([ASKED, GOOD, BAD, KIND]), max_size=4)


@settings(max_examples=400, deadline=None)
@given(st.fixed_dictionaries({}, optional={
    name: VALUES | TURNS
    for name in ("prompt", "chosen", "rejected", "input", "preferred_output", "non_preferred_output")
}))  # fmt: skip
def test_any_row_is_a_pair_or_an_error_with_a_remedy(row: dict[str, Any]) -> None:
    try:
        parsed = parse(row)
    except StageError as error:
        assert error.message.startswith("f:1: ") and error.remedy
    else:
        assert parsed.turns[-1].target and parsed.turns[-2].role != "assistant"
        assert not any(turn.target for turn in parsed.turns[:-1])
        assert parsed.rejected.role == "assistant" and parsed.rejected.content != parsed.turns[-1].content


def random_row(random: Random, number: int) -> PreferenceRow:
    """A row with a few exchanges, and answers of any length."""
    words = ["tune", "smith", "Größe", "東京", "🙂", "rank", "and so on", "a\nb"]

    def text(most: int) -> str:
        return " ".join(random.choices(words, k=random.randint(1, most)))

    prompt = [Turn("system", text(4), False)] if random.random() < 0.5 else []
    for _ in range(random.randint(0, 3)):
        prompt += [Turn("user", text(12), False), Turn("assistant", text(12), False)]
    prompt.append(Turn("user", text(12), False))
    better, worse = text(12), text(12)
    worse += " no" * (better == worse)
    answers = (Turn("assistant", better, True), Turn("assistant", worse, True))
    return PreferenceRow(f"f:{number}", (*prompt, answers[0]), rejected=answers[1])


def shortened(row: PreferenceRow, dropped: int) -> PreferenceRow:
    system = tuple(turn for turn in row.turns[:-1] if turn.role == "system")
    return row.with_prompt((*system, *row.turns[len(system) : -1][2 * dropped :]))


def test_pairs_are_what_the_encoder_of_conversations_makes_of_both() -> None:
    """Against a straightforward one: the fewest exchanges are dropped with which both answers fit."""
    random = Random(0)  # noqa: S311 - test data
    rows = [random_row(random, number) for number in range(1000)]
    encoder, plain = PairEncoder(TOKENIZER, 90), Encoder(TOKENIZER, 10_000)
    skipped = cut = 0
    for row, pieces in zip(rows, encoder.encode(rows), strict=True):
        exchanges = sum(turn.role == "user" for turn in row.turns)
        expected = None
        for dropped in range(exchanges):
            short = shortened(row, dropped)
            [[first], [second]] = list(plain.encode([short.chosen_row, short.rejected_row]))
            if max(len(first.ids), len(second.ids)) <= 90:
                expected, cut = (first, second), cut + (dropped > 0)
                break
        if expected is None:
            assert pieces == []
            skipped += 1
            continue
        [pair] = pieces
        assert isinstance(pair, EncodedPair)
        assert [(part.ids, part.mask) for part in pair.parts] == [(part.ids, part.mask) for part in expected]
        assert pair.row.location == row.location
    assert (encoder.log.counts[Outcome.SKIPPED], encoder.log.counts[Outcome.TRUNCATED]) == (skipped, cut)
    assert skipped > 10 and cut > 100


def test_answers_that_become_equal_are_refused() -> None:
    tokenizer = train_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "message['content'] + '<|im_end|>'", "message['content'] | trim + '<|im_end|>'"
    )
    row = PreferenceRow(
        "f:7", (Turn("user", "a", False), Turn("assistant", "b", True)), rejected=Turn("assistant", " b\n", True)
    )
    with pytest.raises(StageError, match="f:7: both answers become the same tokens"):
        list(PairEncoder(tokenizer, 64).encode([row]))


@given(st.lists(st.tuples(st.integers(0, 2**31 - 2), st.booleans())))
def test_packing_loses_nothing(tokens: list[tuple[int, bool]]) -> None:
    import numpy as np

    ids, mask = unpacked(np.array(packed([i for i, _ in tokens], [int(t) for _, t in tokens])))
    assert list(zip(ids.tolist(), mask.astype(bool).tolist(), strict=True)) == tokens


def test_a_store_counts_both_answers(tmp_path: Any) -> None:
    with TokenStoreWriter(tmp_path) as writer:
        writer.add([5, 6, 7], [0, 1, 1], packed([5, 8, 9, 10, 11], [0, 1, 1, 1, 1]))
        writer.count([5, 8, 9, 10, 11], [0, 1, 1, 1, 1])
        writer.add([1, 2], [0, 1], packed([1, 3], [0, 1]))
        writer.count([1, 3], [0, 1])
    assert (writer.rows, writer.tokens, writer.learned, writer.longest) == (2, 12, 8, 5)
    store = TokenStore.open(tmp_path)
    assert [store[index][0].tolist() for index in range(2)] == [[5, 6, 7], [1, 2]]
    assert unpacked(store[0][2])[0].tolist() == [5, 8, 9, 10, 11]  # type: ignore[misc]


def test_a_row_contradicts_one_that_prefers_the_other_answer() -> None:
    asked = Turn("user", "a", False)
    one = PreferenceRow("f:1", (asked, Turn("assistant", "b", True)), rejected=Turn("assistant", "c", True))
    other = PreferenceRow("f:2", (asked, Turn("assistant", "c", True)), rejected=Turn("assistant", "b", True))
    third = PreferenceRow("f:3", (asked, Turn("assistant", "d", True)), rejected=Turn("assistant", "b", True))
    assert one.question == other.question != third.question
    assert one.texts != other.texts
    assert Row("f:1", one.turns).characters == 2
    assert one.characters == 4
