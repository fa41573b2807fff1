"""The official Python client, unchanged."""

import asyncio
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from support.serving_process import ServingProcess

QUESTION: list[Any] = [{"role": "user", "content": "What is the learning rate?"}]
MORE: Any = {"role": "user", "content": "more?"}
GREEDY: dict[str, Any] = {"model": "tiny", "temperature": 0, "max_tokens": 12}


@pytest.fixture
def client(server: ServingProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_chat(client: openai.OpenAI, expected: dict[str, Any]) -> None:
    answer = client.chat.completions.create(messages=QUESTION, **GREEDY)
    assert answer.choices[0].message.content == expected["answer"]


@pytest.mark.parametrize("form", ["object", "dump", "param"])
def test_its_own_answer_goes_back(client: openai.OpenAI, expected: dict[str, Any], form: str) -> None:
    message = client.chat.completions.create(messages=QUESTION, **GREEDY).choices[0].message
    sent: Any = {
        "object": message,
        "dump": message.model_dump(),
        "param": {"role": "assistant", "content": [{"type": "text", "text": message.content}]},
    }[form]
    again = client.chat.completions.create(messages=[*QUESTION, sent, MORE], **GREEDY)
    assert again.choices[0].message.content == expected["more"]


def test_stream(client: openai.OpenAI, expected: dict[str, Any]) -> None:
    chunks = list(
        client.chat.completions.create(messages=QUESTION, stream=True, stream_options={"include_usage": True}, **GREEDY)
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == expected["answer"]
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 12


def test_stream_helper_and_its_final_message(client: openai.OpenAI, expected: dict[str, Any]) -> None:
    # The helper takes an answer that ends at max_tokens for an error of its own.
    stop = expected["answer"][4:6]
    with client.chat.completions.stream(messages=QUESTION, stop=stop, **GREEDY) as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_completion().choices[0].message
    assert {"chunk", "content.delta", "content.done"} <= kinds
    text = expected["answer"][: expected["answer"].index(stop)]
    assert message.content == text
    plain: Any = {"role": "assistant", "content": text}
    after, same = (
        client.chat.completions.create(messages=[*QUESTION, sent, MORE], **GREEDY) for sent in (message, plain)
    )
    assert after.choices[0].message.content == same.choices[0].message.content


def test_completions(client: openai.OpenAI, expected: dict[str, Any]) -> None:
    assert client.completions.create(prompt="Tunesmith", **GREEDY).choices[0].text == expected["completion"]
    stream = client.completions.create(prompt="Tunesmith", stream=True, **GREEDY)
    assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == expected["completion"]


def test_raw_response(client: openai.OpenAI, expected: dict[str, Any]) -> None:
    raw = client.chat.completions.with_raw_response.create(messages=QUESTION, **GREEDY)
    assert raw.status_code == 200
    assert raw.headers["content-type"] == "application/json"
    assert raw.parse().choices[0].message.content == expected["answer"]
    with client.chat.completions.with_streaming_response.create(messages=QUESTION, stream=True, **GREEDY) as streaming:
        lines = [line for line in streaming.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"


def test_async(server: ServingProcess, expected: dict[str, Any]) -> None:
    async def run() -> tuple[list[str], str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            calls = [client.chat.completions.create(messages=QUESTION, **GREEDY) for _ in range(4)]
            whole = [answer.choices[0].message.content or "" for answer in await asyncio.gather(*calls)]
            stream = await client.chat.completions.create(messages=QUESTION, stream=True, **GREEDY)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        return whole, "".join(pieces)

    assert asyncio.run(run()) == ([expected["answer"]] * 4, expected["answer"])


def test_options_of_other_servers(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        messages=QUESTION, n=3, seed=1, **{**GREEDY, "temperature": 1}, extra_body={"top_k": 20, "min_p": 0.01}
    )
    assert len({choice.message.content for choice in answer.choices}) == 3


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"


class Reply(BaseModel):
    text: Literal["yes", "no"]


def test_answers_in_the_form_of_a_class(client: openai.OpenAI) -> None:
    chat = client.chat.completions.parse(messages=QUESTION, response_format=Reply, **{**GREEDY, "max_tokens": 60})
    assert isinstance(chat.choices[0].message.parsed, Reply)
    response = client.responses.parse(model="tiny", input=QUESTION, text_format=Reply, temperature=0)
    assert isinstance(response.output_parsed, Reply)
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(messages=QUESTION, response_format=Reply, **{**GREEDY, "max_tokens": 3})


def test_what_is_not_there_is_a_bad_request_that_names_it(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(messages=QUESTION, modalities=["audio"], **GREEDY)
    assert caught.value.param == "modalities"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="tiny", input="x")
