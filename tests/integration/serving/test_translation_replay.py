"""The replay of a translation model answers as its server does, the same each time, without an HTTP framework."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.serving_process import ServingProcess
from support.tiny_models import CORPUS
from support.tiny_translation import make_translator
from tunesmith_api.contract import REPLAY_MODULE

BLOCKED = ("fastapi", "starlette", "uvicorn", "prometheus_client", "torch", "transformers")
PROGRAM = f"""
import runpy, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED!r}:
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Block())
sys.argv[0] = {REPLAY_MODULE!r}
runpy.run_module({REPLAY_MODULE!r}, run_name="__main__")
"""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replayed") / "marian"
    return make_translator(folder, "marian", precisions=("fp32", "int8"))


def replay(artifact: Path, lines: list[dict[str, Any]], precision: str) -> list[dict[str, Any]]:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    options = ["--artifact", str(artifact), "--threads", "1", "--precision", precision, "--slots", "4"]
    command = [sys.executable, "-c", PROGRAM, *options]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_answers_as_the_server_does(artifact: Path) -> None:
    parameters = {"max_new_tokens": 9}
    lines = [{"inputs": text, "parameters": parameters} for text in CORPUS]
    answers = replay(artifact, [*lines, {"inputs": "word " * 300}, {"inputs": 5}], "fp32")
    with ServingProcess(artifact, "--precision", "fp32", "--threads", "1") as server:
        for line, answer in zip(lines, answers, strict=False):
            assert answer["outputs"] == httpx.post(f"{server.url}/", json=line).json()
            body = {"model": "model", "messages": [{"role": "user", "content": line["inputs"]}], "max_tokens": 9}
            chat = httpx.post(f"{server.url}/v1/chat/completions", json=body).json()
            assert chat["usage"]["prompt_tokens"] == len(answer["promptIds"])
    too_long, no_text = answers[len(lines) :]
    assert "takes at most 256" in too_long["error"]
    assert "must be a string" in no_text["error"]


def test_int8_answers_are_the_same_each_time(artifact: Path) -> None:
    lines = [{"inputs": text[:length]} for text in CORPUS for length in (3, 9, 40)]
    first = replay(artifact, lines, "int8")
    assert all(answer["outputs"][0]["translation_text"] is not None for answer in first)
    assert replay(artifact, lines, "int8") == first
