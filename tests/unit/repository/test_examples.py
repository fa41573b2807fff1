"""The examples' data is what makes it, and each example is valid."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.example_rows import EXAMPLES, PURPOSES, make_data, rows_of
from tunesmith_api.tasks import TASKS

FOLDERS = sorted(path.parent.name for path in EXAMPLES.glob("*/finetunejob.yaml"))


@pytest.mark.parametrize("example", ["quickstart", "smollm2"])
def test_data_is_written_from_the_models(example: str) -> None:
    """A description that changes changes the questions."""
    written = (EXAMPLES / example / "data.yaml").read_text()
    assert written == make_data("quickstart").config_map(f"{example}-data"), "run: make quickstart-data"


@pytest.mark.parametrize("example", PURPOSES)
def test_data_is_what_makes_it(example: str) -> None:
    module = make_data(example)
    written = (EXAMPLES / example / "data.yaml").read_text()
    assert written == sys.modules["config_map"].data_of(EXAMPLES / example, module.rows()), "run: make examples-data"


@pytest.mark.parametrize("example", PURPOSES)
def test_validation_is_not_in_training(example: str) -> None:
    train, validation = rows_of(example)
    seen = {json.dumps(_without_id(row)) for row in train}
    assert 15 <= len(validation) < len(train)
    assert not [row for row in validation if json.dumps(_without_id(row)) in seen]


def test_each_task_and_each_purpose_has_an_example() -> None:
    specs = [_manifest(example, "finetunejob")["spec"] for example in FOLDERS]
    assert {spec.get("task", "textGeneration") for spec in specs} == set(TASKS)
    assert {*PURPOSES, "quickstart", "smollm2"} == set(FOLDERS)
    for example, spec in zip(FOLDERS, specs, strict=True):
        assert spec["evaluation"]["gates"], example
        assert _manifest(example, "inferenceworkspace")["spec"]["model"] == {"fineTuneJob": example}


@pytest.mark.parametrize("example", PURPOSES)
def test_the_readme_names_the_example(example: str) -> None:
    text = (EXAMPLES / example / "README.md").read_text()
    assert f"tunesmith run -f examples/{example} " in text
    assert f"kubectl apply -f examples/{example}/" in text


@pytest.mark.slow
def test_all_are_valid() -> None:
    """Their rows are read, too."""
    options = [option for example in FOLDERS for option in ("-f", str(EXAMPLES / example))]
    command = [str(Path(sys.executable).with_name("tunesmith")), "validate", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("is valid") == 2 * len(FOLDERS)


def _manifest(example: str, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((EXAMPLES / example / f"{kind}.yaml").read_text())
    return found


def _without_id(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "id"}
