"""Parses YAML and JSON text into nodes.

It works on the parser's events and bounds depth and size, so that no document can exhaust the stack or memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from tunesmith_api.manifests.nodes import Node, Scalar, kind_of, path_of
from tunesmith_api.manifests.scalars import resolve_plain

MAX_DEPTH = 64
MAX_VALUES = 200_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE_TAG = "tag:yaml.org,2002:"
_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_ESCAPED_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


class YamlError(Exception):
    """A document cannot be read, or has a duplicate key.

    Attributes:
        line: Line in the text, from 1.
        field: Path of the field; empty if there is none.
        message: What is wrong.
        remedy: What to do about it.
    """

    def __init__(self, line: int, message: str, remedy: str, field: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.field = field
        self.message = message
        self.remedy = remedy


@dataclass
class _Open:
    """A list or an object that is still being read."""

    node: Node
    anchor: str | None
    is_map: bool
    key: str | None = None
    merges: bool = False
    merged: list[Node] = field(default_factory=list)


def read_documents(text: str, problems: list[YamlError]) -> list[Node]:
    """Return the documents in a text; faults are added to `problems`.

    Documents before the first unreadable one are returned; empty ones are left out.
    """
    if match := _UNREADABLE.search(text):
        line = text.count("\n", 0, match.start()) + 1
        problems.append(YamlError(line, f"holds the control character {match[0]!r}", "write a text file in UTF-8"))
        return []
    documents: list[Node] = []
    try:
        for document in _Builder(problems).documents(yaml.parse(_joined_pairs(text), Loader=_LOADER)):
            if document.value is not None:
                documents.append(document)
    except YamlError as problem:
        template = "{{" in text.split("\n")[problem.line - 1]
        problems.append(YamlError(problem.line, *_TEMPLATE) if template else problem)
    except yaml.MarkedYAMLError as error:
        problems.append(_syntax_error(error, text))
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        problems.append(YamlError(1, f"cannot be read as YAML ({error})", "write a text file in UTF-8"))
    return documents


def _joined_pairs(text: str) -> str:
    """Replace JSON's escaped surrogate pairs, which YAML does not have, by their characters."""
    return _ESCAPED_PAIR.sub(lambda m: m[1] + bytes.fromhex(m[2] + m[3]).decode("utf-16-be"), text)


class _Builder:
    """Builds nodes from events."""

    def __init__(self, problems: list[YamlError]) -> None:
        self.problems = problems
        self.stack: list[_Open] = []
        self.anchors: dict[str, Node] = {}
        self.root: Node | None = None

    def documents(self, events: Iterator[Any]) -> Iterator[Node]:
        """Yield each document as its end is reached."""
        for event in events:
            line = event.start_mark.line + 1
            if isinstance(event, yaml.DocumentStartEvent):
                self.stack, self.anchors, self.root = [], {}, None
            elif isinstance(event, yaml.DocumentEndEvent):
                if self.root is not None:
                    yield self.root
            elif isinstance(event, yaml.AliasEvent):
                self._add(self._aliased(event.anchor, line), line)
            elif isinstance(event, yaml.ScalarEvent):
                self._scalar(event, line)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._open(event, line)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._close()

    def _open(self, event: Any, line: int) -> None:  # noqa: ANN401 - a PyYAML event
        is_map = isinstance(event, yaml.MappingStartEvent)
        self._check_tag(event.tag, "map" if is_map else "seq", line)
        if self.stack and self.stack[-1].is_map and self.stack[-1].key is None:
            raise YamlError(
                line, f"has {'an object' if is_map else 'a list'} where a field's name must be", _NAME_IT, self._path()
            )
        if len(self.stack) >= MAX_DEPTH:
            raise YamlError(line, f"is nested deeper than {MAX_DEPTH} levels", "write it flatter")
        self.stack.append(_Open(Node({} if is_map else [], line), event.anchor, is_map))

    def _close(self) -> None:
        done = self.stack.pop()
        if isinstance(done.node.value, dict):
            for other in done.merged:
                if not isinstance(other.value, dict):
                    raise YamlError(other.line, f"merges {kind_of(other.value)} by <<", "write << with an object")
                for key, value in other.value.items():
                    if key not in done.node.value:
                        done.node.value[key] = value
                        done.node.key_lines[key] = value.line
                        done.node.size += value.size
        if done.anchor:
            self.anchors[done.anchor] = done.node
        self._add(done.node, done.node.line)

    def _scalar(self, event: Any, line: int) -> None:  # noqa: ANN401 - a PyYAML event
        if self.stack and self.stack[-1].is_map and self.stack[-1].key is None:
            self._key(event.value, line, merge=event.value == "<<" and event.implicit[0])
            return
        node = Node(self._value(event, line), line, text=event.value)
        if event.anchor:
            self.anchors[event.anchor] = node
        self._add(node, line)

    def _value(self, event: Any, line: int) -> Scalar:  # noqa: ANN401 - a PyYAML event
        self._check_tag(event.tag, "str int float bool null", line)
        if event.implicit[0] or event.tag not in (None, "!", f"{_CORE_TAG}str"):
            return resolve_plain(event.value)
        return str(event.value)

    def _key(self, key: str, line: int, *, merge: bool = False) -> None:
        top = self.stack[-1]
        top.key, top.merges = key, merge
        if merge:
            return
        if key in top.node.key_lines:
            self.problems.append(
                YamlError(
                    line,
                    f"is written twice, first on line {top.node.key_lines[key]}",
                    "remove one of them",
                    self._path(),
                )
            )
        else:
            top.node.key_lines[key] = line

    def _add(self, node: Node, line: int) -> None:
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        if top.is_map and top.key is None:
            if not isinstance(node.value, str):
                raise YamlError(line, f"has {kind_of(node.value)} where a field's name must be", _NAME_IT)
            self._key(node.value, line)
            return
        if isinstance(top.node.value, list):
            top.node.value.append(node)
        elif isinstance(top.node.value, dict) and top.key is not None:
            if top.merges:
                top.merged += node.value if isinstance(node.value, list) else [node]
            else:
                top.node.value.setdefault(top.key, node)
            top.key = None
        top.node.size += node.size
        if top.node.size > MAX_VALUES:
            raise YamlError(
                line, f"stands for more than {MAX_VALUES:,} values", "remove aliases (*name) that repeat large parts"
            )

    def _aliased(self, anchor: str | None, line: int) -> Node:
        if anchor is None or anchor not in self.anchors:
            raise YamlError(line, f"the alias *{anchor} names nothing before it", f"write &{anchor} where it is set")
        return self.anchors[anchor]

    def _check_tag(self, tag: str | None, allowed: str, line: int) -> None:
        if tag not in (None, "!", *(f"{_CORE_TAG}{name}" for name in allowed.split())):
            raise YamlError(line, f"has the YAML tag {tag}", "remove the tag", self._path())

    def _location(self) -> list[str | int]:
        location: list[str | int] = []
        for item in self.stack:
            if isinstance(item.node.value, list):
                location.append(len(item.node.value))
            elif item.key is not None:
                location.append(item.key)
        return location

    def _path(self) -> str:
        return path_of(self._location())


_NAME_IT = "write a text there"
_TEMPLATE = ("is a template, not a manifest", "write it out first, with `helm template`")
_REMEDIES = {
    "mapping values are not allowed": (
        "has a ':' that does not fit here",
        "correct the indentation, or put a text that holds ': ' in quotes",
    ),
    "did not find expected key": ("does not fit the lines above", "correct the indentation"),
    "did not find expected '-' indicator": ("does not fit the list above", "correct the indentation, or write '- '"),
    "could not find expected ':'": ("has no ':' after the field's name", "write NAME: VALUE"),
    "found unexpected end of stream": ("a quote or bracket is never closed", "write the closing one"),
    "did not find expected ',' or": ("a bracket is not closed, or a comma is missing", "write it"),
}


def _syntax_error(error: yaml.MarkedYAMLError, text: str) -> YamlError:
    """Translate a parser's error into plain words."""
    problem = str(error.problem or "cannot be read")
    mark = error.problem_mark or error.context_mark
    number = mark.line if mark else 0
    lines = text.split("\n")
    number = min(number, max(len(lines) - 1, 0))
    for near in (number, number - 1):
        if 0 <= near < len(lines) and re.match(r"\s*\t", lines[near]):
            return YamlError(near + 1, "is indented with a tab", "write spaces instead")
    if "{{" in lines[number]:
        return YamlError(number + 1, *_TEMPLATE)
    for start, (message, remedy) in _REMEDIES.items():
        if problem.startswith(start):
            if "never closed" in message and error.context_mark:
                number = error.context_mark.line
            return YamlError(number + 1, message, remedy)
    return YamlError(number + 1, f"is not YAML here ({problem})", "correct the quotes, brackets or indentation")
