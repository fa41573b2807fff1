"""LangChain's agent with ChatOpenAI, unchanged: it calls a tool and answers with its result. Prints one JSON object."""

import asyncio
import json
import os
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

QUESTION = os.environ["TEST_QUESTION"]
asked: list[str] = []


@tool
def weather(city: str) -> str:
    """Says the weather in a city."""
    asked.append(city)
    return os.environ["TEST_RESULT"]


def steps(messages: list[Any]) -> list[Any]:
    """The calls and texts of a conversation."""
    said = [message for message in messages if isinstance(message, AIMessage)]
    return [[(call["name"], call["args"]) for call in one.tool_calls] or one.content for one in said]


chat = ChatOpenAI(model=os.environ["TEST_MODEL"], temperature=0, max_retries=0)
question: Any = {"messages": [("user", QUESTION)]}
agent = create_agent(chat, [weather])
streaming = create_agent(ChatOpenAI(model=os.environ["TEST_MODEL"], temperature=0, streaming=True), [weather])
chunks = list(chat.bind_tools([weather]).stream(QUESTION))
total = chunks[0]
for chunk in chunks[1:]:
    total += chunk
assert isinstance(total, AIMessageChunk)
forced = chat.bind_tools([weather], tool_choice="weather", parallel_tool_calls=False).invoke("Hello")
found: dict[str, Any] = {
    "agent": steps(agent.invoke(question)["messages"]),
    "async": steps(asyncio.run(agent.ainvoke(question))["messages"]),
    "streaming": steps(streaming.invoke(question)["messages"]),
    "chunks": [(call["name"], call["args"]) for call in total.tool_calls],
    "forced": [call["name"] for call in forced.tool_calls],
    "asked": asked,
}
print(json.dumps(found))
