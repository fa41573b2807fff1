"""Conversations as text by a chat template, and which characters of it the assistant says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.data.errors import dataset_error
from tunesmith_trainer.data.rows import Row, Turn

Span = tuple[int, int]

_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
# Tokens that end a turn in the templates of the common model families.
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<turn|>", "<|eot|>", "</s>", "<|endoftext|>")


def turn_end_tokens(tokenizer: Any) -> tuple[str, ...]:  # noqa: ANN401 - transformers has no types
    """Return the tokens of a vocabulary that can end a turn, the tokenizer's EOS token first."""
    known = tokenizer.get_vocab()
    return tuple(dict.fromkeys(t for t in (tokenizer.eos_token, *_TURN_ENDS) if t and t in known))


class TurnsNotSeparableError(StageError):
    """The template writes an earlier turn differently when others follow, so its span cannot be found."""


class ChatFormat:
    """A tokenizer's chat template, applied.

    Attributes:
        marked: Whether the template itself marks what the assistant says ({% generation %}).
    """

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - transformers has no types
        self._template: str = tokenizer.get_chat_template()
        self._variables = {name: value for name, value in tokenizer.special_tokens_map.items()}
        self.marked = bool(_MARKER.search(self._template))
        self._ends = turn_end_tokens(tokenizer)
        self._check_template()

    def _check_template(self) -> None:
        """Raise when the template is no Jinja at all."""
        from jinja2 import TemplateSyntaxError
        from transformers.utils.chat_template_utils import _compile_jinja_template

        try:
            _compile_jinja_template(self._template)
        except TemplateSyntaxError as error:
            raise StageError(
                Reason.INVALID_MODEL,
                f"the model's chat template is broken at line {error.lineno}: {error.message}",
                "Correct chat_template.jinja in the model's folder",
            ) from None

    def _render(self, location: str, turns: Sequence[Turn], *, prompt: bool = False) -> tuple[str, list[Span]]:
        """Return the conversation as text, and the spans that the template marks as generated."""
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            texts, spans = render_jinja_template(
                conversations=[messages],
                chat_template=self._template,
                add_generation_prompt=prompt,
                return_assistant_tokens_mask=self.marked,
                **self._variables,
            )
        except (TemplateError, TypeError, ValueError, LookupError) as error:
            raise dataset_error(
                location,
                f"the model's chat template refuses the conversation: {error}",
                "Change the row's turns to what the template takes",
            ) from None
        return texts[0], list(spans[0]) if self.marked else []

    def question(self, row: Row) -> tuple[str, str]:
        """Return the text up to the assistant's last turn, generation prompt included, and what should follow it.

        The answer is as the template writes it, without the token that ends the turn.
        """
        last = max(index for index, turn in enumerate(row.turns) if turn.role == "assistant")
        before = [turn._replace(learned=False) for turn in row.turns[:last]]
        turns = (*before, row.turns[last]._replace(learned=True))
        text, spans = self.text_and_spans(Row(row.location, turns))
        answer = text[slice(*spans[-1])]
        for token in self._ends:
            answer = answer.removesuffix(token)
        return self._render(row.location, turns[:-1], prompt=True)[0], answer

    def text_and_spans(self, row: Row) -> tuple[str, list[Span]]:
        """Return a conversation as text, and the character spans `[start, end)` of it that are learned.

        The token that ends the assistant's turn is learned with it.

        Raises:
            StageError: The template refuses the conversation, or what the assistant says cannot be found in it.
        """
        text, marked = self._render(row.location, row.turns)
        said = [index for index, turn in enumerate(row.turns) if turn.role == "assistant"]
        if self.marked:
            if len(marked) != len(said):
                raise StageError(
                    Reason.INVALID_MODEL,
                    f"{row.location}: the model's chat template marks {len(marked)} passages as generated "
                    f"where the assistant speaks {len(said)} times",
                    "Put {% generation %} around each turn of the assistant in chat_template.jinja",
                )
            spans = {index: span for index, span in zip(said, marked, strict=True)}
        else:
            spans = {index: self._between_prefixes(row, index, text) for index in said if row.turns[index].learned}
        return text, [self._to_turn_end(text, spans[index]) for index in said if row.turns[index].learned]

    def _between_prefixes(self, row: Row, index: int, text: str) -> Span:
        """Return the span of turn `index`: from the prompt before it to the conversation up to and with it."""
        before = self._render(row.location, row.turns[:index], prompt=True)[0] if index else ""
        upto = self._render(row.location, row.turns[: index + 1])[0]
        if not text.startswith(upto) or not upto.startswith(before):
            raise TurnsNotSeparableError(
                Reason.INVALID_MODEL,
                f"{row.location}: what the assistant says in turn {index + 1} cannot be found in the text that the "
                "model's chat template makes: its generation prompt is not how it begins an answer",
                "Put {% generation %} around the assistant's turns in the model's chat_template.jinja",
            )
        return len(before), len(upto)

    def _to_turn_end(self, text: str, span: Span) -> Span:
        """Return the span with its end moved to just after the token that ends the turn."""
        start, end = span
        said = text[start:end]
        for token in self._ends:
            if said.rstrip().endswith(token):
                return start, start + len(said.rstrip())
            if text.startswith(token, end):
                return start, end + len(token)
        return span
