"""LangChain's ChatOpenAI, unchanged: prints what it gets as one JSON object."""

import asyncio
import json
import os
from typing import Any

import openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel

MODEL = os.environ["TEST_MODEL"]
QUESTION = HumanMessage("What is the learning rate?")
OPTIONS: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_retries": 0}


class Reply(BaseModel):
    """A structured answer."""

    text: str


PARTS: Any = [{"type": "text", "text": "What is the "}, {"type": "text", "text": "learning rate?"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}

chat = ChatOpenAI(max_tokens=12, **OPTIONS)
sampling = ChatOpenAI(max_tokens=12, n=2, seed=3, top_p=0.9, presence_penalty=0.5, **OPTIONS)
answer = chat.invoke([QUESTION])
found: dict[str, Any] = {
    "answer": answer.content,
    "tokens": (answer.usage_metadata or {})["output_tokens"],
    "more": chat.invoke([QUESTION, answer, HumanMessage("more?")]).content,
    "stream": "".join(str(chunk.content) for chunk in chat.stream([QUESTION])),
    "async": asyncio.run(chat.ainvoke([QUESTION])).content,
    "batch": [message.content for message in chat.batch([[QUESTION], [QUESTION]])],
    "named": chat.invoke([HumanMessage(QUESTION.content, name="bob")]).content,
    "parts": chat.invoke([HumanMessage(PARTS)]).content,
    "seeded": sampling.invoke([QUESTION]).content != "",
    "completion": OpenAI(max_tokens=12, **OPTIONS).invoke("Tunesmith"),
    "system": isinstance(chat.invoke([SystemMessage("Be brief."), QUESTION]), AIMessage),
}
for name, runnable in {"tools": chat.bind_tools([TOOL]), "structured": chat.with_structured_output(Reply)}.items():
    try:
        runnable.invoke([QUESTION])
    except openai.BadRequestError as error:
        found[name] = error.param
print(json.dumps(found))
