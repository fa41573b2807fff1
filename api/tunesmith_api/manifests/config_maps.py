"""Reads ConfigMaps and checks their keys and contents by the rules of Kubernetes."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from tunesmith_api.manifests.nodes import NAME_FORM, Node, shown

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_MAX_BYTES = 1 << 20

Problem = tuple[tuple[str | int, ...], str, str]


def metadata_problems(document: Node) -> Iterator[Problem]:
    """Yield the faults in the name and the namespace of a ConfigMap: location, message, remedy."""
    for field, required in (("name", True), ("namespace", False)):
        node = document.get("metadata", field)
        value = node.value if node else None
        location = ("metadata", field)
        if value is None:
            if required:
                yield location, "is missing", f"write {field}: my-data"
        elif not isinstance(value, str):
            yield (
                location,
                f"must be a text, not {shown(node.plain() if node else None)}",
                f"write for example {field}: my-data",
            )
        elif not _NAME.fullmatch(value) or len(value) > 253:
            yield (
                location,
                f"{NAME_FORM}, not {shown(value)}",
                f"write for example {field}: my-data",
            )


def read_config_map(document: Node, problems: list[Problem]) -> dict[str, bytes]:
    """Return the contents of a ConfigMap by key; faults are added to `problems`."""
    contents: dict[str, bytes] = {}
    for field in ("data", "binaryData"):
        node = document.get(field)
        if node is None or node.value is None:
            continue
        if not isinstance(node.value, dict):
            problems.append(
                ((field,), f"must be an object, not {shown(node.plain())}", f"write {field}: {{KEY: TEXT}}")
            )
            continue
        for key, item in node.value.items():
            location = (field, key)
            if not _KEY.fullmatch(key) or key.startswith("..") or key == ".":
                problems.append((location, f"{shown(key)} is not a key", "write letters, digits, '-', '_' and '.'"))
            elif key in contents:
                problems.append((location, "is in data too", "remove one of them"))
            elif not isinstance(item.value, str):
                what = shown(item.plain())
                remedy = f'write it in quotes: {key}: "{item.text}"' if item.text else "write the text after '|'"
                problems.append((location, f"must be a text, not {what}", remedy))
            else:
                contents[key] = _content(item.value, field == "binaryData", location, problems)
    if (size := sum(map(len, contents.values()))) > _MAX_BYTES:
        message = f"the ConfigMap holds {size / 2**20:.1f} MiB, more than the 1 MiB that Kubernetes takes"
        problems.append((("data",), message, "keep the rows in a file and write its path or URI as uri"))
    return contents


def _content(text: str, binary: bool, location: tuple[str | int, ...], problems: list[Problem]) -> bytes:
    if not binary:
        return text.encode()
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        problems.append((location, "is not base64", "write what `base64 FILE` prints, or put text under data"))
        return b""
