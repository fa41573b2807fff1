"""The rows of the examples, from their own make_data.py."""

import importlib.util
from functools import cache
from types import ModuleType
from typing import Any

from support.source_tree import ROOT

EXAMPLES = ROOT / "examples"
PURPOSES = (
    "domain-text",
    "chat",
    "creative",
    "preferences",
    "classification",
    "entities",
    "translation",
    "question-answering",
)
"""The examples whose data is made by rules; each has its own make_data.py."""

Rows = list[dict[str, Any]]


@cache
def make_data(example: str) -> ModuleType:
    """Return the module that makes an example's data."""
    name = f"make_data_of_{example.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / example / "make_data.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(example: str) -> tuple[Rows, Rows]:
    """Return an example's rows for training and for validation."""
    train, validation = make_data(example).rows()
    return train, validation
