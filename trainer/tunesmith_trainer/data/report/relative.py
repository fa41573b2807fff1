"""Leaves out of a report the folder that the data is in, so that an artifact is the same wherever it was made."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any


def without_folder(report: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a report whose locations begin after the folder that all local files share.

    Args:
        report: The report.
        names: The names of the data files; those of local files are absolute paths.
    """
    folders = [os.path.dirname(name) for name in names if name.startswith("/")]
    if not folders:
        return report
    prefix = os.path.commonpath(folders).rstrip("/") + "/"

    def shorten(value: Any) -> Any:  # noqa: ANN401 - any JSON value
        if isinstance(value, str):
            return value.removeprefix(prefix)
        if isinstance(value, list):
            return [shorten(item) for item in value]
        return {key: shorten(item) for key, item in value.items()} if isinstance(value, dict) else value

    return dict(shorten(report))
