"""Clients that call a tool and go on with its result, unchanged, against a model that has learned this by heart."""

import json
from typing import Any

import openai
import pytest

from support.clients import CLIENTS, node_folder, python_with_clients, run_client
from support.serving_process import ServingProcess
from support.tool_models import ANSWER, QUESTION, RESULT, WEATHER

VARIABLES = {"TEST_QUESTION": QUESTION, "TEST_RESULT": RESULT, "TEST_TOOLS": json.dumps([WEATHER])}
CALL = ["weather", {"city": "Berlin"}]


@pytest.mark.parametrize("stream", [False, True])
def test_openai_for_python(tool_server: ServingProcess, stream: bool) -> None:
    client = openai.OpenAI(base_url=f"{tool_server.url}/v1", api_key="none", max_retries=0)
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    calls = []
    for _ in range(2):
        options: Any = {"model": "tiny", "messages": messages, "tools": [WEATHER], "temperature": 0}
        if stream:
            with client.chat.completions.stream(**options) as streamed:
                message = streamed.get_final_completion().choices[0].message
        else:
            message = client.chat.completions.create(**options).choices[0].message
        messages.append(message)
        for call in message.tool_calls or ():
            assert call.type == "function"
            calls.append([call.function.name, json.loads(call.function.arguments)])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": RESULT})
    assert calls == [CALL]
    assert messages[-1].content == ANSWER


def test_langchain_agent(tool_server: ServingProcess) -> None:
    program = CLIENTS / "programs" / "langchain_agent.py"
    assert run_client([python_with_clients(), program], tool_server.url, "tiny", **VARIABLES) == {
        "agent": [[CALL], ANSWER],
        "async": [[CALL], ANSWER],
        "streaming": [[CALL], ANSWER],
        "chunks": [CALL],
        "forced": ["weather"],
        "asked": ["Berlin"] * 3,
    }


def test_openai_for_node(tool_server: ServingProcess) -> None:
    program = CLIENTS / "node" / "tool_loop.mjs"
    assert run_client(["node", program, node_folder()], tool_server.url, "tiny", **VARIABLES) == {
        "reason": "tool_calls",
        "calls": [CALL],
        "answer": ANSWER,
        "whole": ANSWER,
        "streamed": ANSWER,
        "asked": ["Berlin"] * 2,
    }
