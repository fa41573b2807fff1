"""LiteLLM, unchanged: prints what it gets as one JSON object."""

import asyncio
import json
import os
from typing import Any

import litellm

litellm.suppress_debug_info = True
QUESTION: list[Any] = [{"role": "user", "content": "What is the learning rate?"}]
OPTIONS: dict[str, Any] = {
    "model": f"openai/{os.environ['TEST_MODEL']}",
    "api_base": os.environ["OPENAI_BASE_URL"],
    "api_key": "none",
    "temperature": 0,
    "max_tokens": 12,
    "num_retries": 0,
}

answer = litellm.completion(messages=QUESTION, **OPTIONS)
message = answer.choices[0].message
found: dict[str, Any] = {"answer": message.content, "tokens": answer.usage.completion_tokens}
for name, sent in {"more": message, "more_dumped": message.model_dump()}.items():
    again = litellm.completion(messages=[*QUESTION, sent, {"role": "user", "content": "more?"}], **OPTIONS)
    found[name] = again.choices[0].message.content
chunks = litellm.completion(messages=QUESTION, stream=True, stream_options={"include_usage": True}, **OPTIONS)
found["stream"] = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
found["async"] = asyncio.run(litellm.acompletion(messages=QUESTION, **OPTIONS)).choices[0].message.content
named = litellm.completion(messages=QUESTION, user="u1", metadata={"a": "b"}, **OPTIONS)
found["user"] = named.choices[0].message.content
found["several"] = [choice.message.content for choice in litellm.completion(messages=QUESTION, n=2, **OPTIONS).choices]
text = {**OPTIONS, "model": OPTIONS["model"].replace("openai/", "text-completion-openai/")}
found["completion"] = litellm.text_completion(prompt="Tunesmith", **text).choices[0].text
form = {"type": "json_object"}
found["object"] = litellm.completion(messages=QUESTION, response_format=form, **OPTIONS).choices[0].message.content[0]
try:
    litellm.completion(messages=QUESTION, verbosity="low", **OPTIONS)
except litellm.BadRequestError as error:
    found["refused"] = "verbosity" in str(error)
print(json.dumps(found))
