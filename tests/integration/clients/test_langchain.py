"""LangChain's ChatOpenAI, unchanged."""

from typing import Any

from support.clients import CLIENTS, python_with_clients, run_client
from support.serving_process import ServingProcess


def test_langchain(server: ServingProcess, expected: dict[str, Any]) -> None:
    program = CLIENTS / "programs" / "langchain_client.py"
    answer = expected["answer"]
    assert run_client([python_with_clients(), program], server.url, "tiny") == {
        "answer": answer,
        "tokens": 12,
        "more": expected["more"],
        "stream": answer,
        "async": answer,
        "batch": [answer, answer],
        "named": answer,
        "parts": answer,
        "seeded": True,
        "completion": expected["completion"],
        "system": True,
        "tools": "tools",
        "structured": True,
        "object": "{",
        "responses": answer,
        "responses_stream": answer,
    }
