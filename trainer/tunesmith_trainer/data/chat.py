"""Renders conversations with a chat template, and finds the assistant's turns in the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from os.path import commonprefix
from typing import Any

from tunesmith_api.chat.rendering import UnsupportedToolsError, template_inputs
from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.data.errors import dataset_error
from tunesmith_trainer.data.rows import Row, Turn
from tunesmith_trainer.data.special_tokens import turn_ends

Span = tuple[int, int]

_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")

_FOLD = (
    "If it takes no system turn, write spec.dataset.systemTurn: fold, which puts it in front of the first user turn; "
    "else change the row's turns to what the template takes"
)


class TurnsNotSeparableError(StageError):
    """The template renders a turn differently once other turns follow, so its span cannot be found."""


class ChatFormat:
    """Renders conversations with a tokenizer's chat template.

    Attributes:
        marked: Whether the template marks the assistant's turns itself, with {% generation %}.
    """

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - transformers has no types
        self._template: str = tokenizer.get_chat_template()
        self._variables = {name: value for name, value in tokenizer.special_tokens_map.items()}
        self.marked = bool(_MARKER.search(self._template))
        self._ends = turn_ends(tokenizer)
        self._check_template()

    def _check_template(self) -> None:
        """Raise a StageError if the template is not valid Jinja."""
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

    def _render(self, row: Row, turns: Sequence[Turn], *, prompt: bool = False) -> tuple[str, list[Span]]:
        """Return turns of a row as text, and the spans that the template marks as generated."""
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            messages, tools = template_inputs(self._template, [turn.message for turn in turns], row.tools)
            texts, spans = render_jinja_template(
                conversations=[messages],
                tools=tools,
                chat_template=self._template,
                add_generation_prompt=prompt,
                return_assistant_tokens_mask=self.marked,
                **self._variables,
            )
        except UnsupportedToolsError as error:
            raise dataset_error(
                row.location,
                f"tools: {error}",
                "Use a model whose chat template has tools, or write one that has them into chat_template.jinja",
            ) from None
        except (TemplateError, TypeError, ValueError, LookupError) as error:
            raise dataset_error(
                row.location,
                f"the model's chat template refuses the conversation: {error}",
                _FOLD if turns and turns[0].role == "system" else "Change the row's turns to what the template takes",
            ) from None
        return texts[0], list(spans[0]) if self.marked else []

    def question(self, row: Row) -> tuple[str, str]:
        """Return the prompt of the last target turn, generation prompt included, and the reference answer.

        The answer is what the template renders, without the token that ends the turn.
        """
        last = max(index for index, turn in enumerate(row.turns) if turn.target)
        before = [turn._replace(target=False) for turn in row.turns[:last]]
        turns = (*before, row.turns[last]._replace(target=True))
        text, spans = self.text_and_spans(Row(row.location, turns, tools=row.tools))
        answer = text[slice(*spans[-1])]
        for token in self._ends:
            answer = answer.removesuffix(token)
        return self._render(row, turns[:-1], prompt=True)[0], answer

    def text_and_spans(self, row: Row) -> tuple[str, list[Span]]:
        """Return a conversation as text, and the character spans `[start, end)` that the loss is computed on.

        A span includes the token that ends the assistant's turn.

        Raises:
            StageError: The template refuses the conversation, or an assistant's turn cannot be found in the text.
        """
        text, marked = self._render(row, row.turns)
        assistant = [index for index, turn in enumerate(row.turns) if turn.role == "assistant"]
        if self.marked:
            if len(marked) != len(assistant):
                raise StageError(
                    Reason.INVALID_MODEL,
                    f"{row.location}: the model's chat template marks {len(marked)} passages as generated "
                    f"for {len(assistant)} turns of the assistant",
                    "Put {% generation %} around each turn of the assistant in chat_template.jinja",
                )
            spans = {index: span for index, span in zip(assistant, marked, strict=True)}
        else:
            spans = {index: self._between_prefixes(row, index, text) for index in assistant if row.turns[index].target}
        return text, [self._to_turn_end(text, spans[index]) for index in assistant if row.turns[index].target]

    def _between_prefixes(self, row: Row, index: int, text: str) -> Span:
        """Return the span of turn `index`: from the end of its prompt to the end of the turn."""
        before = self._render(row, row.turns[:index], prompt=True)[0] if index else self._header(row)
        upto = self._render(row, row.turns[: index + 1])[0]
        if not text.startswith(upto) or not upto.startswith(before):
            raise TurnsNotSeparableError(
                Reason.INVALID_MODEL,
                f"{row.location}: what the assistant says in turn {index + 1} cannot be found in the text that the "
                "model's chat template renders: answers do not begin with its generation prompt",
                "Put {% generation %} around the assistant's turns in the model's chat_template.jinja",
            )
        return len(before), len(upto)

    def _header(self, row: Row) -> str:
        """Return what stands before the content of a conversation's first turn: no prompt has been rendered for it."""
        first = row.turns[0]
        texts = [self._render(row, [first._replace(content=content, calls=())])[0] for content in ("x", "y")]
        return commonprefix([*texts, self._render(row, row.turns[:1])[0]])

    def _to_turn_end(self, text: str, span: Span) -> Span:
        """Return the span, extended or cut to end just after the token that ends the turn."""
        start, end = span
        content = text[start:end].rstrip()
        for token in self._ends:
            if content.endswith(token):
                return start, start + len(content)
            if text.startswith(token, end):
                return start, end + len(token)
        return span
