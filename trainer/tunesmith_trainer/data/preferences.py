"""Rows with two answers to a prompt, of which one is better: the formats that `objective: dpo` reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tunesmith_api.failures import StageError
from tunesmith_api.spec import DatasetFormat
from tunesmith_trainer.data.columns import columns_line, meant_for
from tunesmith_trainer.data.conversation import as_text, check_conversation, is_messages, read_turns
from tunesmith_trainer.data.errors import dataset_error, shown
from tunesmith_trainer.data.formats import Fields, Format, Formats
from tunesmith_trainer.data.rows import Row, Turn


@dataclass(frozen=True)
class PreferenceRow(Row):
    """A checked row of preference data. `turns` are the prompt and the better answer.

    Attributes:
        rejected: The worse answer to the same prompt.
    """

    rejected: Turn = Turn("assistant", "", True)

    @property
    def texts(self) -> list[str]:
        """All texts of both conversations."""
        return [*super().texts, self.rejected.role, self.rejected.content]

    @property
    def question(self) -> list[str]:
        """The prompt and both answers in any order: rows contradict each other if they prefer another one of them."""
        return [*super().question, *sorted((self.turns[-1].content, self.rejected.content))]

    @property
    def characters(self) -> int:
        """Number of characters that are tokenised, those of the prompt twice."""
        return sum(len(turn.content) for row in (self.chosen_row, self.rejected_row) for turn in row.turns)

    @property
    def chosen_row(self) -> Row:
        """The conversation with the better answer."""
        return Row(self.location, self.turns)

    @property
    def rejected_row(self) -> Row:
        """The conversation with the worse answer."""
        return Row(self.location, (*self.turns[:-1], self.rejected))

    def with_prompt(self, prompt: tuple[Turn, ...]) -> PreferenceRow:
        """Return the same answers to another prompt."""
        return replace(self, turns=(*prompt, self.turns[-1]))


def _preference(location: str, fields: Fields) -> Row:
    prompt, chosen, rejected = (fields.get(name) for name in ("prompt", "chosen", "rejected"))
    if prompt in (None, "", []):
        return _conversations(location, fields)
    turns = _turns(location, "prompt", "user", prompt)
    answers = [
        _answer(location, name, _turns(location, name, "assistant", value), turns)
        for name, value in (("chosen", chosen), ("rejected", rejected))
    ]
    return _pair(location, "prompt", turns, ("chosen", answers[0]), ("rejected", answers[1]))


def _openai(location: str, fields: Fields) -> Row:
    given, names = fields["input"], ("preferred_output", "non_preferred_output")
    if not isinstance(given, dict):
        raise dataset_error(
            location, f"input is {shown(given)}, not an object", 'Write {"messages": [{"role": "user", ...}, ...]}'
        )
    if given.get("tools"):
        raise dataset_error(
            location,
            "input.tools: tools are not supported with pairs of answers",
            "Remove tools, or write the definitions as text in the system turn",
        )
    if "messages" not in given:
        raise dataset_error(location, "input.messages is missing", 'Write {"messages": [{"role": "user", ...}, ...]}')
    turns = read_turns(location, "input.messages", given["messages"])
    answers = [_answer(location, name, read_turns(location, name, fields[name]), turns) for name in names]
    return _pair(location, "input.messages", turns, (names[0], answers[0]), (names[1], answers[1]))


def _turns(location: str, field: str, role: str, value: Any) -> list[Turn]:  # noqa: ANN401 - any JSON value
    """Return the turns of a column: a list of messages, or the text of one turn of a role."""
    if is_messages(value):
        return read_turns(location, field, value)
    return [Turn(role, as_text(location, field, value), role == "assistant")]


def _answer(location: str, field: str, turns: list[Turn], prompt: list[Turn]) -> Turn:
    """Return the answer of a column, which may repeat the prompt before it."""
    if len(turns) > 1 and _same(turns[: len(prompt)], prompt):
        turns = turns[len(prompt) :]
    if len(turns) != 1 or turns[0].role != "assistant":
        roles = ", ".join(turn.role for turn in turns) or "nothing"
        raise dataset_error(
            location,
            f"{field} must be one turn of the assistant, and it has {roles}",
            f"Write the turns before the last answer into the prompt, and that answer alone as {field}",
        )
    return turns[0]


def _conversations(location: str, fields: Fields) -> Row:
    """Return the row of two whole conversations, which are equal up to their last answers."""
    for name in ("chosen", "rejected"):
        if isinstance(fields[name], str) and not fields[name].lstrip().startswith("["):
            other = meant_for("prompt", fields)
            raise dataset_error(
                location,
                f"{name} is a text, and there is no prompt that it answers",
                f"Write spec.dataset.{columns_line({'prompt': other})}"
                if other
                else "Write the prompt in a column of its own, or both as messages: "
                '[{"role": "user", ...}, {"role": "assistant", ...}]',
            )
    better, worse = (read_turns(location, name, fields[name]) for name in ("chosen", "rejected"))
    shared = 0
    while shared < min(len(better), len(worse)) and _same(better[shared : shared + 1], worse[shared : shared + 1]):
        shared += 1
    if shared == len(better) == len(worse):
        raise _equal(location, "chosen", "rejected")
    if shared == 0:
        raise dataset_error(
            location,
            "chosen and rejected begin with different turns, so they do not answer the same prompt",
            "Begin both with the same turns, or write them as prompt, chosen and rejected",
        )
    prompt = better[:shared]
    if prompt[-1].role == "assistant":  # as in chosen = rejected + one more exchange
        raise _after_an_answer(location, f"what chosen and rejected have in common ({shared} turns)")
    answers = [_answer(location, name, turns[shared:], []) for name, turns in (("chosen", better), ("rejected", worse))]
    return _pair(location, "chosen", prompt, ("chosen", answers[0]), ("rejected", answers[1]))


def _pair(
    location: str, field: str, prompt: list[Turn], chosen: tuple[str, Turn], rejected: tuple[str, Turn]
) -> PreferenceRow:
    """Return the checked row of a prompt and its answers, each with the name of its column."""
    if not prompt:
        raise dataset_error(location, f"{field} is empty", "Write at least a user's turn")
    if prompt[-1].role == "assistant":
        raise _after_an_answer(location, field)
    if all(turn.role == "system" for turn in prompt):
        raise dataset_error(location, f"{field} has a system turn alone", "Write a user's turn after it")
    if any(turn.calls for turn in (*prompt, chosen[1], rejected[1])):
        raise dataset_error(
            location,
            f"{field}: tool calls are not supported with pairs of answers",
            "Remove the row, or write the calls as text",
        )
    if chosen[1].content == rejected[1].content:
        raise _equal(location, chosen[0], rejected[0])
    before = [turn._replace(target=False) for turn in prompt]
    turns = check_conversation(location, field, [*before, chosen[1]._replace(target=True)])
    return PreferenceRow(location, turns, rejected=rejected[1]._replace(target=True))


def _same(some: list[Turn], others: list[Turn]) -> bool:
    return [turn[:2] for turn in some] == [turn[:2] for turn in others]


def _equal(location: str, chosen: str, rejected: str) -> StageError:
    return dataset_error(
        location, f"{chosen} and {rejected} are equal, so neither is better", "Correct one of them, or remove the row"
    )


def _after_an_answer(location: str, field: str) -> StageError:
    return dataset_error(
        location,
        f"{field} ends with a turn of the assistant, so there is nothing to answer",
        "End it with the user's turn that both answers reply to",
    )


PREFERENCE_FORMATS: Formats = {
    DatasetFormat.PREFERENCE: Format(
        ("chosen", "rejected"),
        ("prompt",),
        '{"prompt": "...", "chosen": "...", "rejected": "..."}',
        _preference,
        aliases={
            "chosen": (
                "preferred",
                "preferred_output",
                "accepted",
                "better",
                "winner",
                "win",
                "positive",
                "response_w",
            ),
            "rejected": ("dispreferred", "non_preferred_output", "worse", "loser", "lose", "negative"),
        },
    ),
    DatasetFormat.OPENAI_PREFERENCE: Format(
        ("input", "preferred_output", "non_preferred_output"),
        (),
        '{"input": {"messages": [{"role": "user", "content": "..."}]}, '
        '"preferred_output": [{"role": "assistant", "content": "..."}], '
        '"non_preferred_output": [{"role": "assistant", "content": "..."}]}',
        _openai,
    ),
}
"""The formats of pairs of answers, in the order in which they are tried."""
