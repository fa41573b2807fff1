"""Text generation in the protocols of tasks: huggingface_hub's InferenceClient, KServe V2, and what they refuse."""

import json
import re
from typing import Any

import httpx
import jsonschema
import numpy as np
import openai
import pytest
import tritonclient.http
from huggingface_hub import InferenceClient, TextGenerationInputGrammarType
from huggingface_hub.errors import BadRequestError

from support.serving_process import ServingProcess
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer

PROMPT = "The learning rate is"


@pytest.fixture
def hub(server: ServingProcess) -> InferenceClient:
    return InferenceClient(server.url)


def completion(client: openai.OpenAI, **options: Any) -> Any:
    given = {"model": "tiny", "prompt": PROMPT, "max_tokens": 20, "temperature": 0, **options}
    return client.completions.create(**given).choices[0]


def test_text_generation(hub: InferenceClient, client: openai.OpenAI) -> None:
    whole = hub.text_generation(PROMPT, max_new_tokens=20)
    assert whole == completion(client).text
    assert "".join(hub.text_generation(PROMPT, max_new_tokens=20, stream=True)) == whole
    assert hub.text_generation(PROMPT, max_new_tokens=20, return_full_text=True) == PROMPT + whole
    drawn = [hub.text_generation(PROMPT, max_new_tokens=20, temperature=1.2, top_p=0.9, seed=seed) for seed in (1, 2)]
    assert drawn[0] == completion(client, temperature=1.2, top_p=0.9, seed=1).text != drawn[1]
    # As in text-generation-inference, tokens are drawn only where something asks for it.
    assert hub.text_generation(PROMPT, max_new_tokens=20, seed=5) == whole
    assert hub.text_generation(PROMPT, max_new_tokens=20, do_sample=True, seed=1) != whole
    stop = whole[5:8]
    assert hub.text_generation(PROMPT, max_new_tokens=20, stop=[stop]) == whole[: whole.index(stop)]


def test_details(hub: InferenceClient, client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    answer = hub.text_generation(PROMPT, max_new_tokens=12, details=True)
    assert answer.generated_text == completion(client, max_tokens=12).text
    assert (answer.details.finish_reason, answer.details.generated_tokens) == ("length", 12)
    assert tokenizer.decode([token.id for token in answer.details.tokens]) == answer.generated_text
    assert all(token.logprob <= 0 and not token.special for token in answer.details.tokens)
    events = list(hub.text_generation(PROMPT, max_new_tokens=12, details=True, stream=True))
    assert [event.token.id for event in events] == [token.id for token in answer.details.tokens]
    assert [event.token.logprob for event in events] == [token.logprob for token in answer.details.tokens]
    assert "".join(event.token.text for event in events) == answer.generated_text
    assert [event.index for event in events] == list(range(1, 13))
    assert events[-1].generated_text == answer.generated_text
    assert events[-1].details.finish_reason == "length"
    assert all(event.details is None for event in events[:-1])


def test_the_end_of_an_answer_that_stops(hub: InferenceClient) -> None:
    whole = hub.text_generation(PROMPT, max_new_tokens=20)
    events = list(hub.text_generation(PROMPT, max_new_tokens=20, stop=[whole[5:8]], details=True, stream=True))
    assert events[-1].details.finish_reason == "stop_sequence"
    assert events[-1].generated_text == "".join(event.token.text for event in events)
    ended = 0
    for seed in range(30):  # some draw of random weights ends by itself
        answer = hub.text_generation(PROMPT, max_new_tokens=300, temperature=50.0, seed=seed, details=True)
        if answer.details.finish_reason != "eos_token":
            continue
        ended += 1
        asked = {"max_new_tokens": 300, "temperature": 50.0, "seed": seed, "details": True}
        *events, last = hub.text_generation(PROMPT, stream=True, **asked)
        assert last.token.special and last.token.text == ""
        assert last.details.generated_tokens == answer.details.generated_tokens == len(events) + 1
        assert "".join(event.token.text for event in events) == last.generated_text == answer.generated_text
        break
    assert ended


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 4},
        "steps": {"type": "integer", "minimum": 1, "maximum": 99},
    },
    "required": ["name", "steps"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "grammar",
    [
        {"type": "json", "value": SCHEMA},
        {"type": "json", "value": json.dumps(SCHEMA)},
        {"type": "json_schema", "value": {"name": "run", "schema": SCHEMA}},
    ],
)
def test_an_answer_follows_a_schema(hub: InferenceClient, grammar: Any) -> None:
    for seed in range(5):  # of random weights, which without a grammar write no JSON
        asked = {"max_new_tokens": 100, "temperature": 1.5, "seed": seed, "grammar": grammar}
        answer = hub.text_generation(PROMPT, **asked)
        jsonschema.validate(json.loads(answer), SCHEMA)
        assert "".join(hub.text_generation(PROMPT, stream=True, **asked)) == answer


def test_an_answer_follows_a_regular_expression(hub: InferenceClient, client: openai.OpenAI) -> None:
    pattern = "20[0-9]{2}-[01][0-9]"
    answer = hub.text_generation(PROMPT, grammar=TextGenerationInputGrammarType(type="regex", value=pattern))
    assert re.fullmatch(pattern, answer)
    assert answer == completion(client, extra_body={"structured_outputs": {"regex": pattern}}).text


def test_chat_completion(hub: InferenceClient, client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "What is the learning rate?"}]
    theirs = client.chat.completions.create(model="tiny", messages=messages, max_tokens=16, temperature=0)  # type: ignore[arg-type]
    ours = hub.chat_completion(messages, model="tiny", max_tokens=16, temperature=0)
    assert ours.choices[0].message.content == theirs.choices[0].message.content
    chunks = hub.chat_completion(messages, model="tiny", max_tokens=16, temperature=0, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == ours.choices[0].message.content


def test_kserve(server: ServingProcess, client: openai.OpenAI) -> None:
    prompts = [PROMPT, "Tunesmith"]
    asked = tritonclient.http.InferenceServerClient(server.url.removeprefix("http://"))
    given = tritonclient.http.InferInput("text_input", [2], "BYTES")
    given.set_data_from_numpy(np.array(prompts, dtype=object))
    found = asked.infer("tiny", [given], parameters={"max_new_tokens": 20})
    expected = [completion(client, prompt=prompt).text for prompt in prompts]
    for name in ("text_output", "generated_text"):
        assert [value.decode() for value in found.as_numpy(name)] == expected
    assert asked.get_model_metadata("tiny")["inputs"][0]["datatype"] == "BYTES"


def test_truncate(server: ServingProcess, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(PROMPT * 300, add_special_tokens=True)
    body = {"inputs": PROMPT * 300, "parameters": {"truncate": 7, "max_new_tokens": 10}}
    answer = httpx.post(f"{server.url}/models/tiny", json=body).json()[0]["generated_text"]
    by_ids = {"model": "tiny", "prompt": ids[-7:], "max_tokens": 10, "temperature": 0}
    assert answer == httpx.post(f"{server.url}/v1/completions", json=by_ids).json()["choices"][0]["text"]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"best_of": 2}, "best_of"),
        ({"grammar": {"type": "json", "value": 5}}, "grammar.value: must be a JSON schema"),
        ({"grammar": {"type": "json", "value": "{"}}, "grammar.value: must be a JSON schema"),
        ({"grammar": {"type": "regex", "value": ""}}, "grammar.value: must be a regular expression"),
        ({"grammar": {"type": "regex", "value": "(?=a)b"}}, "grammar.value: look-around"),
        ({"grammar": {"type": "json_schema", "value": {}}}, "grammar.value: must be an object with"),
        ({"grammar": {"type": "xml", "value": "a"}}, "grammar.type"),
        ({"grammar": {"type": "json", "value": {"properties": {"a": {"not": {}}}}}}, "grammar.value.properties.a.not"),
        ({"typical_p": 0.5}, "use top_p"),
        ({"watermark": True}, "watermark"),
        ({"max_new_token": 5}, "did you mean max_new_tokens"),
        ({"stop": ["a"] * 5}, "at most 4"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": True}, "top_p"),
        ({"details": "yes"}, "details"),
    ],
)
def test_bad_parameters(server: ServingProcess, parameters: dict[str, Any], says: str) -> None:
    for stream in (False, True):
        body = {"inputs": PROMPT, "parameters": parameters, "stream": stream}
        response = httpx.post(f"{server.url}/", json=body)
        assert response.status_code == 400, response.text
        assert says in response.json()["error"]


def test_prompts_that_do_not_fit(hub: InferenceClient, server: ServingProcess) -> None:
    with pytest.raises(BadRequestError, match="context length is 512"):
        hub.text_generation("word " * 2000)
    with pytest.raises(BadRequestError, match="context length is 512"):
        list(hub.text_generation("word " * 2000, stream=True))
    too_many = httpx.post(f"{server.url}/", json={"inputs": ["a"] * 9})
    assert too_many.status_code == 413
    assert "at most 8" in too_many.json()["error"]
    both = httpx.post(f"{server.url}/", json={"inputs": ["a", "b"], "stream": True})
    assert both.status_code == 400
    assert "one input" in both.json()["error"]


def test_a_client_that_leaves_a_stream_frees_its_slot(server: ServingProcess) -> None:
    body = {"inputs": PROMPT, "parameters": {"max_new_tokens": 480, "temperature": 1.0, "seed": 1}, "stream": True}
    for _ in range(12):  # more than slots and queue hold
        with httpx.stream("POST", f"{server.url}/", json=body, timeout=300) as response:
            assert response.status_code == 200
            line = next(line for line in response.iter_lines() if line)
            assert json.loads(line.removeprefix("data: "))["token"]["text"] is not None
