"""The OpenAI API, by the official client, and by raw requests where the client would not send them."""

import json
import socket
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from support.rival_servers import peak
from support.serving_process import ServingProcess, wait_until
from support.tiny_models import SPECIAL_TOKENS
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer

USER = [{"role": "user", "content": "What is the learning rate?"}]


def chat(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(
        **{"model": "tiny", "messages": USER, "max_tokens": 24, "temperature": 0, **options}
    )


def text_of(stream: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def test_chat(client: openai.OpenAI) -> None:
    answer = chat(client)
    assert answer.object == "chat.completion"
    assert answer.model == "tiny"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 24
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 24
    assert answer.choices[0].message.content
    assert not any(token in answer.choices[0].message.content for token in SPECIAL_TOKENS)


def test_chat_stream_equals_whole(client: openai.OpenAI) -> None:
    chat(client, max_tokens=1)  # of both that follow, the prefix cache has as much
    whole = chat(client, max_tokens=100)
    chunks = list(chat(client, max_tokens=100, stream=True, stream_options={"include_usage": True}))
    assert text_of(chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chat(client, stream=True))


def test_completion(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="tiny", prompt="Tunesmith", max_tokens=20, temperature=0)
    assert whole.object == "text_completion"
    assert whole.usage is not None and whole.usage.completion_tokens == 20
    stream = client.completions.create(model="tiny", prompt=["Tunesmith"], max_tokens=20, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text
    default = client.completions.create(model="tiny", prompt="Tunesmith", temperature=0)
    assert default.usage is not None and default.usage.completion_tokens == 16


def test_completion_of_tokens(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("Tunesmith", add_special_tokens=True)
    by_ids = client.completions.create(model="tiny", prompt=ids, max_tokens=8, temperature=0)
    by_text = client.completions.create(model="tiny", prompt="Tunesmith", max_tokens=8, temperature=0)
    assert by_ids.choices[0].text == by_text.choices[0].text


def test_content_parts_and_developer_role(client: openai.OpenAI) -> None:
    plain = chat(client, messages=[{"role": "system", "content": "Be brief."}, *USER])
    parts = chat(
        client,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": USER[0]["content"]}]},
        ],
    )
    assert parts.choices[0].message.content == plain.choices[0].message.content
    assert parts.usage.prompt_tokens == plain.usage.prompt_tokens
    assert parts.usage.completion_tokens == plain.usage.completion_tokens


def test_seed_and_temperature(client: openai.OpenAI) -> None:
    first, again, other = (
        chat(client, temperature=1, top_p=0.9, seed=seed).choices[0].message.content for seed in (3, 3, 4)
    )
    assert first == again != other


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_across_tokens(client: openai.OpenAI, stream: bool) -> None:
    full = chat(client, max_tokens=60).choices[0].message.content
    # Any stretch from the middle: it begins and ends inside tokens, and is cut out with all that follows.
    for begin, length in [(10, 1), (17, 3), (23, 9), (30, 5)]:
        stop = full[begin : begin + length]
        answer = chat(client, max_tokens=60, stop=["never comes", stop], stream=stream)
        got = text_of(answer) if stream else answer.choices[0].message.content
        assert got == full[: full.index(stop)]
    answer = chat(client, max_tokens=60, stop=full[30:40])
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens < 60


def test_stream_never_splits_characters(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    whole = client.completions.create(model="tiny", prompt="x", max_tokens=300, temperature=1.5, seed=2, logprobs=0)
    assert whole.choices[0].logprobs is not None
    pieces = [
        chunk.choices[0].text
        for chunk in client.completions.create(
            model="tiny", prompt="x", max_tokens=300, temperature=1.5, seed=2, stream=True
        )
    ]
    assert "".join(pieces) == whole.choices[0].text
    # Some token of the answer is a part of a character: what is shown must come from putting such parts together.
    assert "\ufffd" in "".join(whole.choices[0].logprobs.tokens or [])
    assert any(ord(character) > 127 and character != "\ufffd" for character in whole.choices[0].text)


def test_chat_logprobs(client: openai.OpenAI) -> None:
    answer = chat(client, max_tokens=12, logprobs=True, top_logprobs=3)
    entries = answer.choices[0].logprobs.content
    assert len(entries) == 12
    for entry in entries:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].logprob == entry.logprob  # greedy takes the best
        assert sorted((top.logprob for top in entry.top_logprobs), reverse=True) == [
            top.logprob for top in entry.top_logprobs
        ]
    text = b"".join(bytes(entry.bytes) for entry in entries).decode(errors="replace")
    assert text == answer.choices[0].message.content
    streamed = [
        entry
        for chunk in chat(client, max_tokens=12, logprobs=True, top_logprobs=3, stream=True)
        if chunk.choices and chunk.choices[0].logprobs
        for entry in chunk.choices[0].logprobs.content
    ]
    assert streamed == entries
    assert chat(client).choices[0].logprobs is None


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "tunesmith"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"n": 9}, "n"),
        ({"n": 129}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"5": True}}, "logit_bias"),
        ({"logit_bias": {"-5": 1}}, "logit_bias"),
        ({"logit_bias": {"100000": 1}}, "logit_bias"),
        ({"logit_bias": [5]}, "logit_bias"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": -2.5}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"verbosity": "low"}, "verbosity"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "a", "format": "wav"}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"chat_template": "{{ messages }}"}, "chat_template"),
        ({"echo": True}, "echo"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"max_token": 5}, "max_token"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"seed": 1.5}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream": True, "stream_options": {"other": True}}, "stream_options.other"),
        ({"logprobs": 3}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "mood": "good"}]}, "messages[0].mood"),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "content": "x", "audio": {"id": "1"}}]}, "messages[0].audio"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content",
        ),
        ({"model": 7}, "model"),
    ],
)
def test_bad_chat_requests(server: ServingProcess, options: dict[str, Any], param: str) -> None:
    body = {"model": "tiny", "messages": USER, **options}
    response = httpx.post(f"{server.url}/v1/chat/completions", json=body)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert error["code"]
    assert param.split("[")[0].split(".")[0] in error["message"]


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 5]}, "prompt"),
        ({"prompt": ["a", ["b"]]}, "prompt"),
        ({"prompt": [[5], [100_000]]}, "prompt"),
        ({"prompt": ["a"] * 9}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [100_000]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [-1], "echo": True}, "prompt"),
        ({"prompt": [1 << 32], "echo": True}, "prompt"),
        ({"prompt": ["a"] * 100_000, "n": 128}, "n"),
        ({"echo": True, "logprobs": 0}, "echo"),
        ({"best_of": 3}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"logprobs": 21}, "logprobs"),
    ],
)
def test_bad_completion_requests(server: ServingProcess, options: dict[str, Any], param: str) -> None:
    response = httpx.post(f"{server.url}/v1/completions", json={"model": "tiny", "prompt": "a", **options})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


def test_missing_fields(server: ServingProcess) -> None:
    for body, param in [({"messages": USER}, "model"), ({"model": "tiny"}, "messages")]:
        error = httpx.post(f"{server.url}/v1/chat/completions", json=body).json()["error"]
        assert (error["param"], error["code"]) == (param, "missing_required_parameter")


def test_values_that_ask_for_nothing_are_taken(client: openai.OpenAI) -> None:
    neutral = chat(
        client,
        n=1,
        presence_penalty=0,
        frequency_penalty=0.0,
        logit_bias={},
        tools=[],
        response_format={"type": "text"},
        stop=None,
        top_logprobs=0,
        reasoning_effort="none",
        tool_choice="auto",
        parallel_tool_calls=True,
        stream_options={"include_usage": True},
        max_completion_tokens=24,
        # What does not change the answer is ignored.
        user="me",
        metadata={"a": "b"},
        store=True,
        service_tier="flex",
        safety_identifier="x",
        prompt_cache_key="x",
        prompt_cache_retention="24h",
        prediction={"type": "content", "content": "x"},
        extra_body={
            "repetition_penalty": 1,
            "top_k": -1,
            "min_p": 0,
            "echo": False,
            "suffix": None,
            "unheard_of": None,
            "skip_special_tokens": True,
        },
    )
    assert neutral.choices[0].message.content == chat(client).choices[0].message.content


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"model": NaN}', b"[" * 100_000, b'"text"', b'{"model": ' + b"1" * 5000 + b"}"],
)
def test_bodies_that_are_not_json_objects(server: ServingProcess, body: bytes) -> None:
    response = httpx.post(f"{server.url}/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] in ("invalid_json", "invalid_value")


def test_lone_surrogate(server: ServingProcess) -> None:
    body = b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}'
    response = httpx.post(f"{server.url}/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert "surrogate" in response.json()["error"]["message"]


def test_fields_that_utf8_cannot_encode(server: ServingProcess) -> None:
    response = httpx.post(f"{server.url}/v1/completions", content=b'{"model": "tiny", "prompt": "a", "\\ud800": 1}')
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "\\ud800"


def test_many_errors_are_one(server: ServingProcess) -> None:
    """A body with an error for each of its parts takes no more than one with one."""
    before = peak(server.process.pid)
    bodies = [
        b'{"model": "tiny", "messages": [' + b",".join([b"{}"] * 1_000_000) + b"]}",
        b'{"model": "tiny", "messages": [{' + b",".join(b'"%d":1' % i for i in range(300_000)) + b"}]}",
    ]
    for body in bodies:
        response = httpx.post(f"{server.url}/v1/chat/completions", content=body, timeout=300)
        assert response.status_code == 400
        assert len(response.content) < 1000
    assert peak(server.process.pid) - before < 400  # MiB


def test_cached_tokens_are_those_of_the_prompt(client: openai.OpenAI) -> None:
    """Several answers share a prompt: what the others have of the first one's is not counted again."""
    messages = [{"role": "user", "content": " ".join(f"Word {index}." for index in range(20))}]
    first, second = (chat(client, messages=messages, n=4, max_tokens=2).usage for _ in range(2))
    assert first.prompt_tokens_details.cached_tokens < 32
    assert 32 <= second.prompt_tokens_details.cached_tokens < second.prompt_tokens == first.prompt_tokens


def test_a_parsed_answer_goes_back_as_it_came(client: openai.OpenAI) -> None:
    class Reply(BaseModel):
        yes: bool

    answer = client.chat.completions.parse(model="tiny", messages=USER, response_format=Reply, max_tokens=40)
    message = answer.choices[0].message
    assert message.parsed is not None
    assert chat(client, messages=[*USER, message, *USER]).choices[0].message.content is not None


def test_body_too_large(server: ServingProcess) -> None:
    response = httpx.post(f"{server.url}/v1/chat/completions", content=b" " * (5 << 20))
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"


def test_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        chat(client, model="gpt-4")
    assert caught.value.code == "model_not_found"
    assert "'tiny'" in caught.value.message


def test_prompt_longer_than_the_context(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, messages=[{"role": "user", "content": "word " * 2000}])
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"
    assert "512" in caught.value.message


def test_unknown_paths(server: ServingProcess) -> None:
    for method, path, code in [("GET", "/nothing", 404), ("GET", "/v1/chat/completions", 405)]:
        response = httpx.request(method, server.url + path)
        assert response.status_code == code
        assert response.json()["error"]["message"]


def metric(server: ServingProcess, name: str) -> float:
    for line in httpx.get(f"{server.url}/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise AssertionError(f"no metric {name}")


def test_metrics(server: ServingProcess, client: openai.OpenAI) -> None:
    ok = 'tunesmith_requests_total{code="200",route="/v1/chat/completions"}'
    bad = 'tunesmith_requests_total{code="400",route="/v1/chat/completions"}'
    chat(client)
    with pytest.raises(openai.BadRequestError):
        chat(client, n=0)
    names = [
        ok,
        bad,
        "tunesmith_prompt_tokens_total",
        "tunesmith_generated_tokens_total",
        "tunesmith_time_to_first_token_seconds_count",
        "tunesmith_time_per_output_token_seconds_count",
    ]
    before = {name: metric(server, name) for name in names}
    answer = chat(client)
    with pytest.raises(openai.BadRequestError):
        chat(client, n=0)
    computed = answer.usage.prompt_tokens - answer.usage.prompt_tokens_details.cached_tokens
    expected = (1, 1, computed, answer.usage.completion_tokens, 1, 1)
    assert tuple(metric(server, name) - before[name] for name in names) == expected
    assert metric(server, "tunesmith_slots") == 4
    assert metric(server, "tunesmith_slots_in_use") == 0
    assert metric(server, "tunesmith_queue_length") == 0


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("stream", [True, False])
def test_clients_that_go_away_free_their_slots(server: ServingProcess, stream: bool, n: int) -> None:
    before = metric(server, "tunesmith_generated_tokens_total")
    body = {"model": "tiny", "prompt": [5], "max_tokens": 511, "temperature": 1, "seed": 1, "n": n, "stream": stream}
    data = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    where = (server.url.split("//")[1].split(":")[0], int(server.url.rsplit(":", 1)[1]))
    # Four answers take the slots and four wait; all clients leave without having read anything.
    sockets = [socket.create_connection(where) for _ in range(8 // n)]
    for connection in sockets:
        connection.sendall(head + data)
    wait_until(lambda: metric(server, "tunesmith_generated_tokens_total") > before)
    for connection in sockets:
        connection.close()
    wait_until(lambda: metric(server, "tunesmith_slots_in_use") + metric(server, "tunesmith_queue_length") == 0)
    assert metric(server, "tunesmith_generated_tokens_total") - before < 7 * 511


def test_errors_are_openai_errors_in_json(server: ServingProcess) -> None:
    error = json.loads(httpx.post(f"{server.url}/v1/completions", content=b"{").text)["error"]
    assert set(error) == {"message", "type", "param", "code"}
