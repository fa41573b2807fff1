"""LiteLLM, unchanged."""

from typing import Any

from support.clients import CLIENTS, python_with_clients, run_client
from support.serving_process import ServingProcess


def test_litellm(server: ServingProcess, expected: dict[str, Any]) -> None:
    program = CLIENTS / "programs" / "litellm_client.py"
    answer = expected["answer"]
    assert run_client([python_with_clients(), program], server.url, "tiny") == {
        "answer": answer,
        "tokens": 12,
        "more": expected["more"],
        "more_dumped": expected["more"],
        "stream": answer,
        "async": answer,
        "user": answer,
        "several": [answer, answer],
        "completion": expected["completion"],
        "object": "{",
        "refused": True,
    }
