"""The values of a YAML document, each with its line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Scalar = str | int | float | bool | None
Location = Sequence[str | int]

NAME_FORM = "must be lower-case letters, digits, '-' and '.', with a letter or digit at both ends"


@dataclass(slots=True)
class Node:
    """One value of a document.

    Attributes:
        value: A scalar, the items of a list, or the entries of an object.
        line: Line where it begins, from 1.
        key_lines: For an object, the line of each key.
        text: A scalar as it was written, without quotes.
        size: Number of values in it, itself included. An alias counts at each use.
    """

    value: Scalar | list[Node] | dict[str, Node]
    line: int
    key_lines: dict[str, int] = field(default_factory=dict)
    text: str = ""
    size: int = 1

    def plain(self) -> Any:  # noqa: ANN401 - any JSON value
        """Return the value as plain JSON."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def get(self, *location: str | int) -> Node | None:
        """Return the value at a location below this one, or None."""
        node: Node | None = self
        for step in location:
            if node is None:
                return None
            node = node._child(step)
        return node

    def line_of(self, location: Location) -> int:
        """Return the line of the field at a location; if it is missing, that of the innermost field that exists."""
        node, line = self, self.line
        for step in location:
            inner = node._child(step)
            if inner is None:
                break
            line = node.key_lines.get(str(step), inner.line)
            node = inner
        return line

    def nulls(self) -> Iterator[tuple[str | int, ...]]:
        """Yield the locations of null values."""
        if self.value is None:
            yield ()
        items: Iterator[tuple[str | int, Node]] = iter(())
        if isinstance(self.value, dict):
            items = iter(self.value.items())
        elif isinstance(self.value, list):
            items = iter(enumerate(self.value))
        for step, node in items:
            for rest in node.nulls():
                yield (step, *rest)

    def _child(self, step: str | int) -> Node | None:
        if isinstance(self.value, dict):
            return self.value.get(str(step))
        if isinstance(self.value, list) and isinstance(step, int) and step < len(self.value):
            return self.value[step]
        return None


def path_of(location: Location) -> str:
    """Return a location as a path: `spec.dataset.sources[0].uri`."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def kind_of(value: object) -> str:
    """Return the kind of a JSON value, in words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "an object"


def shown(value: object, limit: int = 60) -> str:
    """Return a value as text, shortened to fit a message."""
    if isinstance(value, dict | list):
        return kind_of(value)
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
