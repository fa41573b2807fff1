import math

import pytest

from tunesmith_trainer.evaluate.answers import exact_match
from tunesmith_trainer.evaluate.prompts import read_prompts


@pytest.mark.parametrize(
    ("answer", "reference", "equal"),
    [
        ("yes", "yes", True),
        (" yes\n", "yes", True),
        ("yes", "\tyes ", True),
        ("Yes", "yes", False),
        ("yes.", "yes", False),
        ("y es", "yes", False),
        ("", "yes", False),
        ("東京", "東京", True),
    ],
)
def test_surrounding_white_space_alone_is_forgiven(answer: str, reference: str, equal: bool) -> None:
    assert exact_match([answer], [reference]) == float(equal)


def test_it_is_a_share() -> None:
    assert exact_match(["a", "b", "c", "d"], ["a", "x", "c", "y"]) == 0.5


def test_nothing_to_compare_is_no_number() -> None:
    assert math.isnan(exact_match([], []))


def test_the_first_prompts_are_read(tmp_path) -> None:
    path = tmp_path / "evaluation.jsonl"
    path.write_text("".join(f'{{"row": {i}, "prompt_ids": [{i}], "reference": "{i}"}}\n' for i in range(5)))
    assert [prompt.row for prompt in read_prompts(path, 3)] == [0, 1, 2]
    assert read_prompts(tmp_path / "none.jsonl", 3) == []
