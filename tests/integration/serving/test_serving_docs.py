"""The commands of docs/serving-tasks.md, run against a real server: they answer in the shape that the page shows."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.one_pass_artifacts import make_one_pass_artifact
from support.serving_process import ServingProcess

PAGE = (Path(__file__).parents[3] / "docs" / "serving-tasks.md").read_text()
EXAMPLES = re.findall(r"```sh\n(.*?)```\n```json\n(.*?)```", PAGE, flags=re.DOTALL)
SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)


def task_of(command: str) -> str:
    section = next(section for section in SECTIONS if command in section)
    name = section.splitlines()[0]
    return name if name[0].islower() else "sequenceClassification"


def shape(value: Any) -> Any:
    """The keys and types of JSON; of a list only those of its elements."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def test_the_page_has_examples_of_every_task() -> None:
    assert {task_of(command) for command, _ in EXAMPLES} == {
        "sequenceClassification", "tokenClassification", "questionAnswering",
    }  # fmt: skip
    assert len(EXAMPLES) == len(re.findall("```sh", PAGE)) >= 5


@pytest.mark.parametrize("task", ["sequenceClassification", "tokenClassification", "questionAnswering"])
def test_commands_answer_as_the_page_says(tmp_path: Path, task: str) -> None:
    labels = ("billing", "shipping", "returns") if task == "sequenceClassification" else ()
    # With a label such as O nothing would be answered to a text that has no entity.
    labels = ("B-PER", "I-PER", "B-LOC") if task == "tokenClassification" else labels
    artifact = make_one_pass_artifact(tmp_path / "model", task, labels=labels)
    with ServingProcess(artifact, "--model-name", "my-model", "--threads", "1") as server:
        for command, expected in EXAMPLES:
            if task_of(command) != task:
                continue
            here = command.strip().replace("http://127.0.0.1:8080", server.url)
            done = subprocess.run(["bash", "-c", f"{here} -sS --fail-with-body"], capture_output=True, text=True)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
            assert shape(json.loads(done.stdout)) == shape(json.loads(expected)), (command, done.stdout)
