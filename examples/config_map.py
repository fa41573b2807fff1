"""Writes the rows of an example as a ConfigMap, which a job reads by `configMapKeyRef`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

Rows = Iterable[Mapping[str, Any]]


class _LiteralDumper(yaml.SafeDumper):
    """Writes long strings as literal blocks, so that a change of the data can be read in a diff."""


_LiteralDumper.add_representer(
    str,
    lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None),
)


def config_map(name: str, header: str, files: Mapping[str, Rows]) -> str:
    """Return a ConfigMap as YAML.

    Args:
        name: Its name.
        header: The comment above it: what it was written by.
        files: The rows of each of its files of JSON lines.
    """
    data = {key: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows) for key, rows in files.items()}
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
    text = yaml.dump(manifest, Dumper=_LiteralDumper, sort_keys=False, allow_unicode=True, width=10_000)
    return f"# {header}\n{text}"


def data_of(example: Path, rows: tuple[Rows, Rows]) -> str:
    """Return data.yaml of an example, from its rows to train on and to validate on."""
    files = {"train.jsonl": rows[0], "validation.jsonl": rows[1]}
    return config_map(f"{example.name}-data", f"Written by examples/{example.name}/make_data.py.", files)


def write(example: Path, rows: tuple[Rows, Rows]) -> None:
    """Write data.yaml of an example."""
    (example / "data.yaml").write_text(data_of(example, rows))
