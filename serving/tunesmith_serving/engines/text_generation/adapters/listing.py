"""The list of adapters: the file that the operator, or the command line, writes and the server follows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """An adapter that is to be served.

    Attributes:
        name: What requests call it.
        path: Its folder, or the URI of one; empty while somebody else still copies it.
        digest: The digest that its artifact must have; empty accepts any.
        error: Why it could not be copied; it may be later.
    """

    name: str
    path: str = ""
    digest: str = ""
    error: str = ""


@dataclass(frozen=True)
class Listing:
    """What a list says.

    Attributes:
        version: The list's version, if it has one.
        entries: The adapters by name.
        refused: Why a name is not served although the list has it.
        problems: What is wrong with entries that have no usable name.
    """

    version: str | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def read_listing(content: bytes, reserved: str) -> Listing:
    """Return what a list says; `tunesmith_api.contract.ADAPTERS_FILE` is its format.

    Args:
        content: The file's content.
        reserved: The base's name, which no adapter may have.

    Raises:
        ValueError: It is not such a list. A single entry that is wrong does not spoil the others.
    """
    value = json.loads(content)
    if not isinstance(value, dict) or not isinstance(value.get("adapters"), list):
        raise ValueError('it must be an object such as {"adapters": [{"name": "mine", "path": "/adapters/mine"}]}')
    entries: dict[str, Entry] = {}
    refused: dict[str, str] = {}
    problems = []
    for index, item in enumerate(value["adapters"]):
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name:
            problems.append(f"adapters[{index}]: needs a name, which is text")
            continue
        entry = _entry(name, item)
        if isinstance(entry, str):
            refused[name] = entry
        elif name == reserved:
            refused[name] = f"adapters[{index}]: this is the name of the base; give the adapter another one"
        elif entries.setdefault(name, entry) != entry:
            refused[name] = f"adapters[{index}]: the name is there twice; remove one of the entries"
    kept = {name: entry for name, entry in entries.items() if name not in refused}
    version = value.get("version")
    return Listing(None if version is None else str(version), kept, refused, tuple(problems))


def _entry(name: str, item: dict[str, Any]) -> Entry | str:
    """Return an entry, or what is wrong with it."""
    path, digest, error = (item.get(key) or "" for key in ("path", "digest", "error"))
    if not isinstance(path, str) or not isinstance(digest, str) or not isinstance(error, str):
        return "path, digest and error must be text"
    return Entry(name, "" if error else path, digest, error)
