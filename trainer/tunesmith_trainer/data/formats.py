"""Row formats: detects the format and parses rows into checked `Row` objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import DatasetFormat
from tunesmith_trainer.data.columns import lookup, suggest
from tunesmith_trainer.data.conversation import as_text, check_conversation, is_messages, read_turns
from tunesmith_trainer.data.errors import dataset_error, listed, shown
from tunesmith_trainer.data.rows import Row, Turn
from tunesmith_trainer.data.tools import EMPTY, check_calls, row_tools

Fields = dict[str, Any]


@dataclass(frozen=True)
class Format:
    """The columns of a format, and its parser.

    Attributes:
        required: Columns that every row must have.
        optional: Columns that a row may have as well.
        example: An example row for messages.
        read: Parses `(location, fields)` into a row.
        aliases: Names that a column often has in other files, by column, for what a message suggests.
        expand: Yields the rows that an object of a file holds, where that can be several; see `RowParser.rows`.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...]
    example: str
    read: Callable[[str, Fields], Row]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    expand: Callable[[str, Fields], Iterator[tuple[str, Fields]]] | None = None


Formats = Mapping[DatasetFormat, Format]
"""The formats of a task, in the order in which they are tried."""


def _messages(location: str, fields: Fields) -> Row:
    turns = check_conversation(location, "messages", read_turns(location, "messages", fields["messages"]))
    return _with_tools(location, "messages", fields, turns)


def _with_tools(location: str, field: str, fields: Fields, turns: tuple[Turn, ...]) -> Row:
    """Return a conversation with the tools of its row."""
    tools = row_tools(location, "tools", fields.get("tools"))
    check_calls(location, field, turns, tools)
    return Row(location, turns, tools=tools)


def _prompt_completion(location: str, fields: Fields) -> Row:
    prompt, completion = fields["prompt"], fields["completion"]
    if is_messages(prompt) or is_messages(completion):
        before = [turn._replace(target=False) for turn in read_turns(location, "prompt", prompt)]
        after = read_turns(location, "completion", completion)
        turns = check_conversation(location, "completion", [*before, *after])
        return _with_tools(location, "completion", fields, turns)
    answer = Turn("assistant", as_text(location, "completion", completion), True)
    turns = (Turn("user", as_text(location, "prompt", prompt), False), answer)
    return _with_tools(location, "prompt", fields, turns)


def _alpaca(location: str, fields: Fields) -> Row:
    instruction = as_text(location, "instruction", fields["instruction"])
    addition = fields.get("input")
    if addition not in (None, ""):
        instruction += "\n\n" + as_text(location, "input", addition)
    answer = Turn("assistant", as_text(location, "output", fields["output"]), True)
    return Row(location, (*_system(location, fields), Turn("user", instruction, False), answer))


def _sharegpt(location: str, fields: Fields) -> Row:
    turns = read_turns(location, "conversations", fields["conversations"], role_key="from", content_key="value")
    return Row(location, check_conversation(location, "conversations", [*_system(location, fields), *turns]))


def _system(location: str, fields: Fields) -> list[Turn]:
    """Return the system turn from the `system` column, if there is one."""
    if fields.get("system") in (None, ""):
        return []
    return [Turn("system", as_text(location, "system", fields["system"]), False)]


def _text(location: str, fields: Fields) -> Row:
    return Row(location, text=as_text(location, "text", fields["text"]))


# Tried in this order: alpaca files often have a text column as well.
FORMATS: Formats = {
    DatasetFormat.MESSAGES: Format(
        ("messages",),
        ("tools",),
        '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}',
        _messages,
    ),
    DatasetFormat.SHAREGPT: Format(
        ("conversations",),
        ("system",),
        '{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}',
        _sharegpt,
    ),
    DatasetFormat.PROMPT_COMPLETION: Format(
        ("prompt", "completion"), ("tools",), '{"prompt": "...", "completion": "..."}', _prompt_completion
    ),
    DatasetFormat.ALPACA: Format(
        ("instruction", "output"),
        ("input", "system"),
        '{"instruction": "...", "input": "", "output": "..."}',
        _alpaca,
    ),
    DatasetFormat.TEXT: Format(("text",), (), '{"text": "..."}', _text),
}

_PAIR_COLUMNS = ("chosen", "rejected", "preferred_output", "non_preferred_output")


class RowParser:
    """Parses the rows of a data set, all in one format.

    Attributes:
        format: The format; AUTO until the first row has been parsed.
        formats: The formats of the task.
        columns: The names of columns that differ from the format's own.
        columns_seen: The names of all columns in the rows so far, each with the location of its first row.
        columns_found: The names in `columns` that a row had.
        first_row: The first row.
        first_location: Where it is.
    """

    def __init__(self, wanted: DatasetFormat, columns: dict[str, str] | None, formats: Formats = FORMATS) -> None:
        self.format = wanted
        self.formats = formats
        self.columns = columns or {}
        self.columns_seen: dict[str, str] = {}
        self.first_row: Fields = {}
        self.first_location = ""
        self.columns_found: set[str] = set()
        self._check_columns()

    def _check_columns(self) -> None:
        """Raise a StageError if `columns` names a column that the format does not have."""
        for name in self.columns:
            known = self._column_names()
            if name not in known:
                raise StageError(
                    Reason.INVALID_SPEC,
                    f"spec.dataset.columns: {self.format.value} has no column {shown(name)}",
                    f"On the left of a colon write one of {', '.join(known)}; on the right the name in your file",
                )

    def rows(self, location: str, raw: Fields) -> Iterator[Row]:
        """Yield the checked rows of an object in a file: one, or those that it holds in a nested format.

        Raises:
            StageError: As `parse`.
        """
        expand = next((form.expand for form in self.formats.values() if form.expand), None)
        if expand is None:
            yield self.parse(location, raw)
            return
        for place, fields in expand(location, raw):
            yield self.parse(place, fields)

    def parse(self, location: str, raw: Fields) -> Row:
        """Return the checked row.

        Raises:
            StageError: The row is not in the format; the message says where and what is wrong.
        """
        fields = self._rename(location, raw)
        if self.format is DatasetFormat.AUTO:
            self.format = self._detect(location, fields)
            self._check_columns()
        if not self.first_location:
            self.first_location, self.first_row = location, raw
        if not raw.keys() <= self.columns_seen.keys():
            for name in raw:
                self.columns_seen.setdefault(name, location)
        form = self.formats[self.format]
        missing = [name for name in form.required if name not in fields]
        if missing:
            raise self._other_format(location, fields, missing[0])
        _refuse_unsupported(location, fields, form)
        return form.read(location, fields)

    def _column_names(self) -> list[str]:
        """Return the column names of the format; for auto those of all formats."""
        forms = self.formats.values() if self.format is DatasetFormat.AUTO else [self.formats[self.format]]
        return list(dict.fromkeys(name for form in forms for name in (*form.required, *form.optional)))

    def _rename(self, location: str, raw: Fields) -> Fields:
        """Return the row with columns renamed to the format's names."""
        fields = {name: value for name, value in raw.items() if name not in self.columns}
        for name, theirs in self.columns.items():
            try:
                fields[name] = lookup(raw, theirs)
                self.columns_found.add(name)
            except KeyError:
                if any(name in form.optional for form in self.formats.values()):
                    continue
                raise dataset_error(
                    location,
                    f"there is no column {shown(theirs)} (the row has {listed(raw)})",
                    f"Correct spec.dataset.columns.{name}, or the file",
                ) from None
        return fields

    def _detect(self, location: str, fields: Fields) -> DatasetFormat:
        fitting = [name for name, form in self.formats.items() if all(column in fields for column in form.required)]
        # Columns that the spec names say which format is meant, where a row has those of several.
        for name in fitting:
            form = self.formats[name]
            if all(column in (*form.required, *form.optional) for column in self.columns):
                return name
        if fitting:
            return fitting[0]
        raise _unnamed_format(location, fields, list(self.formats.values())) or dataset_error(
            location,
            f"the format is not recognised: the row has {listed(fields)}",
            "Name the columns as one of the formats does ("
            + "; ".join(f"{name.value}: {', '.join(form.required)}" for name, form in self.formats.items())
            + "), or write spec.dataset.format and spec.dataset.columns",
        )

    def _other_format(self, location: str, fields: Fields, missing: str) -> StageError:
        """Return the error for a row without a required column; it names the format that the row seems to have."""
        example = f"Write {self.formats[self.format].example}"
        for name, form in self.formats.items():
            if all(column in fields for column in form.required):
                first = "" if self.first_location == location else f" as in {self.first_location}"
                return dataset_error(
                    location,
                    f"the row is in the format {name.value}, not {self.format.value}{first}",
                    "Keep rows of one format in a data set, or write spec.dataset.format; "
                    f"{self.format.value} rows look like {self.formats[self.format].example}",
                )
        problem = f"{missing} is missing (the row has {listed(fields)})"
        # Only the first row's columns say something about the whole file.
        known = [self.formats[self.format]] if self.first_location == location else []
        return _unnamed_format(location, fields, known, problem) or dataset_error(location, problem, example)


def _unnamed_format(location: str, fields: Fields, formats: list[Format], problem: str = "") -> StageError | None:
    """Return the error for a row of preference data, or with other column names; None if it is neither."""
    if formats and (columns := _better_answers(fields)) is not None:
        return dataset_error(
            location,
            f"this is preference data ({', '.join(name for name in _PAIR_COLUMNS if name in fields)})",
            "To learn which answers are better, write spec.objective: dpo (with task textGeneration); to train on the "
            f"better ones alone, write spec.dataset.columns: {columns}",
        )
    aliases = {column: names for form in formats for column, names in form.aliases.items()}
    # Of the optional columns those are suggested without which a row would mean something else: the second text.
    optional = dict.fromkeys(column for form in formats for column in form.optional if column in form.aliases)
    line = suggest(fields, [form.required for form in formats], aliases, optional)
    if line is None:
        return None
    problem = problem or f"the format is not recognised: the row has {listed(fields)}"
    return dataset_error(location, problem, f"Write spec.dataset.{line}")


def _better_answers(fields: Fields) -> str | None:
    """Return the `columns` by which only the better answers of preference data are read; None if it is no such data."""
    if "chosen" in fields and "rejected" in fields:
        conversation = isinstance(fields["chosen"], list) and "prompt" not in fields
        return "{messages: chosen}" if conversation else "{completion: chosen}"
    if "preferred_output" in fields and "non_preferred_output" in fields and "input" in fields:
        return "{prompt: input.messages, completion: preferred_output}"
    return None


def _refuse_unsupported(location: str, fields: Fields, form: Format) -> None:
    """Raise a StageError if a row has media, or tools in a format that has none."""
    for name in ("tools", "functions"):
        if name not in form.optional and fields.get(name) not in EMPTY:
            raise dataset_error(
                location,
                f"{name}: only rows with messages and OpenAI's tools have tool definitions",
                'Write {"messages": [...], "tools": [{"type": "function", "function": {...}}]}, or remove the column',
            )
    for name in ("image", "images", "audio", "audios", "video", "videos"):
        if fields.get(name) not in EMPTY:
            raise dataset_error(
                location, f"{name}: images and other media are not supported", f"Remove the column {name}, or the row"
            )
