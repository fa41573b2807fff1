"""What a URI names: its kind of storage, the local path it means, and how it may be shown."""

from __future__ import annotations

import re
from pathlib import Path


def scheme_of(uri: str) -> str:
    """Return the URI's scheme in lower case; `file` for a plain path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", uri)
    return match[1].lower() if match else "file"


def public(uri: str) -> str:
    """Return a URI as it may be shown and recorded: without the user's name and without the query, which may sign."""
    if scheme_of(uri) in ("http", "https"):
        return re.sub(r"^(\w+://)[^/@]*@", r"\1", uri).split("?")[0]
    return uri


def local_path(uri: str) -> Path | None:
    """Return the absolute path that a plain path or file:// URI means, or None for any other URI."""
    if scheme_of(uri) != "file":
        return None
    return Path(re.sub(r"^file://", "", uri)).expanduser().absolute()
