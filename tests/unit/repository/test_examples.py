"""The examples' data is what the API models say now: a description that changes changes the questions."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize("example", ["quickstart", "smollm2"])
def test_data_is_written_from_the_models(example: str) -> None:
    spec = importlib.util.spec_from_file_location("make_data", EXAMPLES / "quickstart" / "make_data.py")
    assert spec and spec.loader
    make_data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_data)
    written = (EXAMPLES / example / "data.yaml").read_text()
    assert written == make_data.config_map(f"{example}-data"), "run: make quickstart-data"
