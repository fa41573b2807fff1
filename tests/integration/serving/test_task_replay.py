"""The replay answers inputs of tasks as the server does, without HTTP."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.one_pass_artifacts import make_one_pass_artifact
from tunesmith_api.contract import REPLAY_MODULE
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.one_pass.engine import OnePassEngine
from tunesmith_serving.runtime.config import ServingConfig

TEXT = "The learning rate is the size of each step. "
LINES: dict[str, list[dict[str, Any]]] = {
    "sequenceClassification": [
        {"inputs": TEXT, "parameters": {"top_k": None}},
        {"inputs": TEXT * 20, "parameters": {}},
        {"inputs": {"text": "a", "text_pair": "b"}, "parameters": {"function_to_apply": "none"}},
    ],
    "tokenClassification": [
        {"inputs": TEXT * 12, "parameters": {"aggregation_strategy": "none", "ignore_labels": []}},
        {"inputs": {"tokens": TEXT.split()}},
    ],
    "questionAnswering": [
        {"inputs": {"question": "What is the rate?", "context": TEXT * 9}},
        {"inputs": {"question": "What?", "context": TEXT}, "parameters": {"handle_impossible_answer": True}},
    ],
}
BLOCKED = f"""
import runpy, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("fastapi", "starlette", "uvicorn", "prometheus_client", "torch", "transformers"):
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Block())
runpy.run_module({REPLAY_MODULE!r}, run_name="__main__")
"""


def replay(artifact: Path, lines: list[Any], precision: str = "fp32") -> list[Any]:
    command = [sys.executable, "-c", BLOCKED, "--artifact", str(artifact), "--precision", precision, "--threads", "1"]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("task", list(LINES))
def test_it_answers_as_the_engine_does(tmp_path: Path, task: str) -> None:
    artifact = make_one_pass_artifact(tmp_path / "model", task, precisions=("fp32", "int8"))
    lines = [*LINES[task], {"inputs": 7}, {**LINES[task][0], "generate": False}]
    answers = replay(artifact, lines)
    engine = OnePassEngine.load(open_artifact(artifact, "fp32"), ServingConfig(precision="fp32", threads=1))
    for line, answer in zip(LINES[task], answers, strict=False):
        (alone,) = asyncio.run(engine.predict([line["inputs"]], line.get("parameters") or {}))
        assert _close(answer["outputs"], alone)
        assert answer["promptIds"] == engine.prompt_ids(line["inputs"], line.get("parameters") or {})
    engine.close()
    assert list(answers[-2]) == ["error"] and "must be" in answers[-2]["error"]
    assert answers[-1] == {"promptIds": answers[0]["promptIds"]}
    many = LINES[task] * 30
    assert replay(artifact, many, "int8") == replay(artifact, many, "int8")


def _close(found: Any, expected: Any) -> bool:
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(_close, found, expected))
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_close(found[key], expected[key]) for key in expected)
    return bool(found == pytest.approx(expected, abs=1e-5))
