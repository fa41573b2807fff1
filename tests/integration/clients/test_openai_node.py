"""The official Node client, unchanged."""

from typing import Any

from support.clients import CLIENTS, node_folder, run_client
from support.serving_process import ServingProcess


def test_openai_for_node(server: ServingProcess, expected: dict[str, Any]) -> None:
    program = CLIENTS / "node" / "openai_client.mjs"
    assert run_client(["node", program, node_folder()], server.url, "tiny") == {
        "answer": expected["answer"],
        "status": 200,
        "more": expected["more"],
        "stream": expected["answer"],
        "helper": expected["answer"],
        "moreAfterHelper": expected["more"],
        "completion": expected["completion"],
        "models": ["tiny"],
        "several": [expected["answer"]] * 2,
        "responses": expected["answer"],
        "responsesStream": expected["answer"],
        "responsesMore": expected["more"],
        "form": True,
        "refused": [True, "tools"],
    }
