"""Differences between the tokens of a row and those that the server makes of its request."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.prompts import RowRequest, read_prompts, read_requests
from tunesmith_trainer.export.rendering import compare_rendering

PROMPT, ANSWER = [1, 2, 3], [7, 8]
CHAT = {"messages": [{"role": "user", "content": "x"}]}


class Letters:
    """Token n is the n-th letter; tokens from 100 on are pairs of letters."""

    bos_token = "a"

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join(chr(96 + n) if n < 100 else chr(96 + n // 100) + chr(96 + n % 100) for n in ids)


def compare(
    tmp_path: Path, ids: list[int], mask: list[int], answer: dict[str, Any], request: dict[str, Any] = CHAT
) -> dict[str, int]:
    store = TokenStore.write(tmp_path / "store", [(ids, mask)])
    return compare_rendering([RowRequest(0, "rows.jsonl:7", request)], [answer], store, Letters())


def test_a_row_that_continues_the_prompt_passes(tmp_path: Path) -> None:
    found = compare(tmp_path, PROMPT + ANSWER, [0, 0, 0, 1, 1], {"promptIds": PROMPT})
    assert found == {"rows": 1, "tokens": 3, "boundaryRows": 0}


@pytest.mark.parametrize(
    ("ids", "mask", "served"),
    [
        ([1, 9, 3, 7, 8], [0, 0, 0, 1, 1], PROMPT),  # another token
        ([1, 3, 7, 8], [0, 0, 1, 1], PROMPT),  # a token is missing in training
        ([1, 1, 2, 3, 7, 8], [0, 0, 0, 0, 1, 1], PROMPT),  # a token twice, as a second BOS
        (PROMPT + ANSWER, [0, 0, 0, 1, 1], [1, 2, 3, 4]),  # the server adds one
        (PROMPT + ANSWER, [0, 0, 0, 1, 1], [1, 2]),  # the server leaves one out: the answer begins later
        (PROMPT + ANSWER, [0, 0, 1, 1, 1], PROMPT),  # the mask begins early
        (PROMPT + ANSWER, [0, 0, 0, 0, 1], PROMPT),  # the mask begins late
        (PROMPT, [0, 0, 1], [*PROMPT, 7]),  # the row ends before the prompt does
    ],
)
def test_a_difference_fails_with_place_and_both_sides(
    tmp_path: Path, ids: list[int], mask: list[int], served: list[int]
) -> None:
    with pytest.raises(StageError) as caught:
        compare(tmp_path, ids, mask, {"promptIds": served})
    assert caught.value.reason is Reason.PARITY_FAILED
    assert caught.value.exit_code < 64
    assert "rows.jsonl:7 (validation row 0)" in caught.value.message
    assert str(ids) in caught.value.message
    assert str(served) in caught.value.message
    assert repr(Letters().decode(served, False)) in caught.value.message


def test_a_token_across_the_end_of_the_prompt_is_counted(tmp_path: Path) -> None:
    """The row has `cd` as one token, of which `c` ends the prompt."""
    found = compare(tmp_path, [1, 2, 304, 8], [0, 0, 0, 1], {"promptIds": PROMPT})
    assert found == {"rows": 1, "tokens": 3, "boundaryRows": 1}
    with pytest.raises(StageError):
        compare(tmp_path / "other", [1, 2, 405, 8], [0, 0, 0, 1], {"promptIds": PROMPT})


@pytest.mark.parametrize("mask", [[1] * 5, [0, 1, 0, 0, 0]])
def test_a_mask_that_does_not_tell_where_the_answer_begins_is_left_out(tmp_path: Path, mask: list[int]) -> None:
    """With lossOn all everything is a target; with a weight of 0 the last answer is none."""
    assert compare(tmp_path, PROMPT + ANSWER, mask, {"promptIds": PROMPT})["rows"] == 1
    with pytest.raises(StageError):
        compare(tmp_path / "other", [1, 9, 3, 7, 8], mask, {"promptIds": PROMPT})


@pytest.mark.parametrize("served", [[1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7, 8]])
def test_a_text_is_compared_as_far_as_its_first_row_goes(tmp_path: Path, served: list[int]) -> None:
    """The row ends with EOS, or is the beginning of a long text."""
    request = {"prompt": "abcd"}
    assert compare(tmp_path, [1, 2, 3, 4, 5], [1] * 5, {"promptIds": served}, request)["rows"] == 1
    with pytest.raises(StageError, match="from token 0 on"):
        compare(tmp_path / "other", [2, 3, 4, 5], [1] * 4, {"promptIds": served}, request)


def test_a_text_that_has_its_own_bos_may_have_it_once(tmp_path: Path) -> None:
    for number, trained in enumerate(([1, 2, 3, 5], [1, 1, 2, 3, 5])):
        folder = tmp_path / str(number)
        found = compare(folder, trained, [1] * len(trained), {"promptIds": [1, 1, 2, 3]}, {"prompt": "abc"})
        assert found["rows"] == 1
    with pytest.raises(StageError, match="from token 1 on"):
        compare(tmp_path / "other", [1, 2, 3, 5], [1] * 4, {"promptIds": [1, 1, 2, 3]}, {"prompt": "bc"})


def test_a_request_that_the_server_refuses_fails(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="rows.jsonl:7 .*refuses what training accepted: no system turn"):
        compare(tmp_path, PROMPT + ANSWER, [0, 0, 0, 1, 1], {"error": "no system turn"})


def test_prompts_and_requests_are_read_from_one_file(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.jsonl"
    lines = [
        {"row": 0, "location": "a:1", "text": "plain"},
        {"row": 1, "location": "a:2", "messages": CHAT["messages"], "prompt_ids": [4], "reference": "r"},
        {"row": 2, "location": "a:3", "messages": [], "prompt_ids": [5], "reference": "s"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [(prompt.row, prompt.location) for prompt in read_prompts(path, 9)] == [(1, "a:2"), (2, "a:3")]
    assert [prompt.request for prompt in read_prompts(path, 9)] == [
        CHAT,
        {"prompt": [5]},
    ]
    assert [entry.request for entry in read_requests(path, 9)] == [
        {"prompt": "plain"},
        CHAT,
    ]
    assert len(read_requests(path, 1)) == len(read_prompts(path, 1)) == 1
    assert read_requests(tmp_path / "none.jsonl", 9) == []
