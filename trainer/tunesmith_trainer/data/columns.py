"""Names of columns: nested ones, and those of files whose columns have other names than the format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# For each column of a format, the names that it often has in other files, in the order in which they are tried.
_ALIASES = {
    "messages": ("messages", "conversation", "conversations", "dialog", "dialogue", "chat", "turns"),
    "conversations": ("conversations", "conversation", "dialog", "dialogue", "chat", "turns", "messages"),
    "prompt": ("prompt", "question", "query", "input", "source", "problem", "user", "instruction"),
    "completion": (
        *("completion", "answer", "response", "output", "target", "reply", "solution", "assistant", "label", "chosen"),
    ),
    "instruction": ("instruction", "task"),
    "output": ("output", "response", "answer", "completion"),
    "input": ("input", "context"),
    "system": ("system", "system_prompt"),
    "text": ("text", "content", "body", "document", "raw_content", "article"),
}


def lookup(row: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - any value of a row
    """Return the value of a column, or of a nested one by its dotted name: `translation.de`, `answers.text.0`.

    Raises:
        KeyError: There is no such column.
    """
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise KeyError(name)
    return value


def suggest(
    row: Mapping[str, Any],
    formats: Iterable[tuple[str, ...]],
    aliases: Mapping[str, tuple[str, ...]] | None = None,
    optional: Iterable[str] = (),
) -> str | None:
    """Return the line `columns: {...}` with which a row is in one of the formats; None if none would do.

    Args:
        row: The row.
        formats: The required columns of each format, in the order in which they are tried.
        aliases: Names that columns often have, besides those that are known here.
        optional: Columns that are mapped besides, where the row seems to have them.
    """
    formats, known = list(formats), {**_ALIASES, **(aliases or {})}
    if any("prompt" in required for required in formats) and (languages := _translation(row)):
        return columns_line(dict(zip(("prompt", "completion"), languages, strict=True)))
    flat = _flattened(row)
    best: dict[str, str] | None = None
    for required in formats:
        mapping: dict[str, str] = {}
        for column in required:
            name = _alias(flat, column, set(mapping.values()), known.get(column, ()))
            if name is None:
                break
            mapping[column] = name
        else:
            changed = {column: name for column, name in mapping.items() if column != name}
            if changed and (best is None or len(changed) < len(best)):
                best = changed
    if not best:
        return None
    for column in optional:
        name = _alias(flat, column, set(best.values()), known.get(column, ()))
        if name is not None and name != column:
            best[column] = name
    return columns_line(best)


def columns_line(mapping: Mapping[str, str]) -> str:
    """Return the line of a manifest that maps columns."""
    return "columns: {" + ", ".join(f"{column}: {_yaml(name)}" for column, name in mapping.items()) + "}"


def meant_for(column: str, names: Iterable[str], aliases: Mapping[str, tuple[str, ...]] | None = None) -> str | None:
    """Return the name among `names` that probably stands for a format's column.

    Args:
        column: The format's column.
        names: Names of columns in a file.
        aliases: Names that columns often have, besides those that are known here.
    """
    by_form = {name.strip().casefold(): name for name in names}
    return next((by_form[alias] for alias in {**_ALIASES, **(aliases or {})}.get(column, ()) if alias in by_form), None)


def _alias(flat: Mapping[str, Any], column: str, taken: set[str], aliases: tuple[str, ...]) -> str | None:
    """Return the name of the column of a row that fits a format's column."""
    if column in flat and _fits(column, flat[column]):
        return column
    free = [name for name in flat if name not in taken]
    by_form = {name.rsplit(".")[-1].strip().casefold(): name for name in free}
    by_form.update({name.strip().casefold(): name for name in free})
    for alias in aliases:
        name = by_form.get(alias)
        if name is not None and _fits(column, flat[name]):
            return name
    return None


def _fits(column: str, value: Any) -> bool:  # noqa: ANN401
    """Return whether a column's value can be that of a format's column."""
    if column in ("messages", "conversations"):
        keys = ("role", "content") if column == "messages" else ("from", "value")
        return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and keys[0] in value[0]
    if column == "text":
        return isinstance(value, str)
    if column == "labels":
        return isinstance(value, list) or (isinstance(value, str) and value.startswith("["))
    if column == "label" and isinstance(value, list | dict):
        return False
    return isinstance(value, str | int) and value != "" if column in _ALIASES else value not in (None, "")


def _flattened(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with the columns of nested objects by their dotted names."""
    flat = dict(row)
    for name, value in row.items():
        if isinstance(value, dict):
            flat.update({f"{name}.{key}": item for key, item in value.items()})
    return flat


def _translation(row: Mapping[str, Any]) -> list[str]:
    """Return the dotted names of both texts of a row like `{"translation": {"de": "...", "en": "..."}}`."""
    value = row.get("translation")
    if not isinstance(value, dict) or len(value) != 2 or not all(isinstance(item, str) for item in value.values()):
        return []
    return [f"translation.{language}" for language in value]


def _yaml(name: str) -> str:
    plain = name.replace("_", "").replace("-", "").replace(".", "").isalnum() and name[0].isalpha()
    return name if plain else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
