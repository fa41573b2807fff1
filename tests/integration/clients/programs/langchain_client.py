"""LangChain's ChatOpenAI, unchanged: prints what it gets as one JSON object."""

import asyncio
import json
import os
from typing import Any, Literal

import openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel

MODEL = os.environ["TEST_MODEL"]
QUESTION = HumanMessage("What is the learning rate?")
OPTIONS: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_retries": 0}


class Reply(BaseModel):
    """A structured answer."""

    text: Literal["yes", "no"]


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
try:
    chat.bind_tools([TOOL]).invoke([QUESTION])
except openai.BadRequestError as error:
    found["tools"] = error.param
structured = ChatOpenAI(max_tokens=60, **OPTIONS)
reply = structured.with_structured_output(Reply).invoke([QUESTION])
found["structured"] = isinstance(reply, Reply)
any_object = structured.bind(response_format={"type": "json_object"}).invoke([QUESTION])
found["object"] = str(any_object.content)[0]
responses = ChatOpenAI(max_tokens=12, use_responses_api=True, **OPTIONS)
found["responses"] = responses.invoke([QUESTION]).text
found["responses_stream"] = "".join(chunk.text for chunk in responses.stream([QUESTION]))
print(json.dumps(found))
