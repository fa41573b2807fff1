"""A tiny served model, and what raw requests to it answer: every client must show the same.

With TUNESMITH_CLIENTS_ARTIFACT, the artifact in that folder is served instead, such as the quickstart's.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.serving_process import ServingProcess
from support.tiny_models import make_artifact

MODEL = "tiny"
QUESTION = [{"role": "user", "content": "What is the learning rate?"}]
GREEDY = {"model": MODEL, "temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    options = ["--model-name", MODEL, "--slots", "4", "--threads", "1"]
    if (given := os.environ.get("TUNESMITH_CLIENTS_ARTIFACT")) is not None:
        artifact = Path(given)
    else:
        artifact = make_artifact(tmp_path_factory.mktemp("clients") / "artifact")
        options += ["--precision", "fp32", "--context-length", "512"]
    with ServingProcess(artifact, *options) as process:
        yield process


@pytest.fixture(scope="package")
def expected(server: ServingProcess) -> dict[str, Any]:
    """`answer` to the question, `more` after a second question, and the `completion` of a prompt."""

    def post(path: str, **body: Any) -> dict[str, Any]:
        response = httpx.post(f"{server.url}/v1/{path}", json={**GREEDY, **body})
        assert response.status_code == 200, response.text
        choice: dict[str, Any] = response.json()["choices"][0]
        return choice

    answer = post("chat/completions", messages=QUESTION)["message"]
    conversation = [*QUESTION, answer, {"role": "user", "content": "more?"}]
    return {
        "answer": answer["content"],
        "more": post("chat/completions", messages=conversation)["message"]["content"],
        "completion": post("completions", prompt="Tunesmith")["text"],
    }
