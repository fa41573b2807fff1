"""The filter of the list of jobs by metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sqlalchemy import ColumnElement, String, cast, false

from tunesmith_hosted.database.tables import Job

_KEY = re.compile(r"metadata\[(.*)\]", re.DOTALL)


def metadata_filter(query: Iterable[tuple[str, str]]) -> list[ColumnElement[bool]]:
    """Return the conditions of `metadata[KEY]=VALUE`, and of `metadata=null` for jobs without metadata."""
    conditions: list[ColumnElement[bool]] = []
    for name, value in query:
        if name == "metadata" and value == "null":
            conditions.append(cast(Job.user_metadata, String) == "{}")
        elif (match := _KEY.fullmatch(name)) is not None:
            key = match[1]
            # These cannot be written in a path of JSON in both databases; PostgreSQL's text has no NUL.
            if any(mark in key for mark in '"\\\0') or "\0" in value:
                conditions.append(false())
            else:
                conditions.append(Job.user_metadata[key].as_string() == value)
    return conditions
