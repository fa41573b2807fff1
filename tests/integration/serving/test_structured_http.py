"""Answers in a wanted form, through HTTP by the official client, from a model with random weights."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import httpx
import openai
import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from support.json_schemas import closed, closing_tokens
from support.serving_process import ServingProcess
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer

USER = [{"role": "user", "content": "What is the learning rate?"}]
SCHEMA = closed({
    "name": {"type": "string", "minLength": 1, "maxLength": 6},
    "größe": {"type": "integer", "minimum": -5, "maximum": 150},
    "tags": {"type": "array", "items": {"enum": ["a", "東京", "c d"]}, "minItems": 1, "maxItems": 3},
})  # fmt: skip
FORM = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
DIGITS = {"structured_outputs": {"regex": "[0-9]{3}-[a-c]{2}"}}


def chat(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(**{"model": "tiny", "messages": USER, "seed": 1, **options})


def check(text: str | None) -> None:
    Draft202012Validator(SCHEMA).validate(json.loads(text or ""))


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0},
        {"temperature": 2.0},
        {"temperature": 0.5, "top_p": 0.5, "extra_body": {"top_k": 3, "min_p": 0.1}},
        {"presence_penalty": 2, "frequency_penalty": 1, "extra_body": {"repetition_penalty": 1.5}},
        {"logprobs": True, "top_logprobs": 3, "temperature": 0},
        {"stop": ["\n", "\n\n"]},
    ],
    ids=["greedy", "hot", "nucleus", "penalties", "logprobs", "stop"],
)
def test_a_schema_is_followed_whole_and_streamed(client: openai.OpenAI, options: dict[str, Any]) -> None:
    whole = chat(client, response_format=FORM, n=3, **options)
    for choice in whole.choices:
        assert choice.finish_reason == "stop"
        check(choice.message.content)
    texts = ["", "", ""]
    reasons: list[str | None] = [None] * 3
    for chunk in chat(client, response_format=FORM, n=3, stream=True, **options):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == [choice.message.content for choice in whole.choices]
    assert reasons == ["stop"] * 3


def test_logprobs_are_those_of_the_model(client: openai.OpenAI) -> None:
    """The grammar chooses among tokens; it does not change how likely the model finds them."""
    free = chat(client, temperature=0, logprobs=True, top_logprobs=5, max_tokens=1).choices[0].logprobs.content[0]
    bound = chat(client, temperature=0, logprobs=True, top_logprobs=5, response_format=FORM).choices[0]
    assert bound.logprobs.content[0].token == "{"
    assert bound.logprobs.content[0].logprob < free.logprob
    assert [entry.token for entry in bound.logprobs.content[0].top_logprobs] == [
        entry.token for entry in free.top_logprobs
    ]
    assert "".join(entry.token for entry in bound.logprobs.content if entry.token.isascii()).startswith('{"name":"')


# It compiles; how complex it is shows only once `x` is there.
COMPLEX = 'start: "x" REST\nREST: /(.*a.{60}b.*)/ & /(.*b.{60}a.*)/ & /(.*c.{61}d.*)/'


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_grammar_that_becomes_too_complex_is_the_requests_fault(
    client: openai.OpenAI, api: str, stream: bool
) -> None:
    extra = {"structured_outputs": {"grammar": COMPLEX}}
    with pytest.raises(openai.APIError, match="use smaller bounds, and fewer intersections") as caught:
        if api == "chat":
            list(chat(client, extra_body=extra, stream=stream))
        else:
            list(client.completions.create(model="tiny", prompt="a", extra_body=extra, stream=stream))
    if stream:
        assert (caught.value.type, caught.value.code) == ("invalid_request_error", "grammar_too_complex")
    else:
        assert isinstance(caught.value, openai.BadRequestError)
    check(chat(client, response_format=FORM).choices[0].message.content)


def test_no_bias_leads_out_of_the_grammar(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    bias = {str(tokenizer.token_id(token)): 100 for token in ("z", "<|im_end|>", "<|im_start|>")}
    answer = chat(client, temperature=0, logit_bias=bias, extra_body=DIGITS)
    assert re.fullmatch(r"\d{3}-[a-c]{2}", answer.choices[0].message.content)


def test_a_stop_string_ends_the_answer_where_it_begins(client: openai.OpenAI) -> None:
    whole = chat(client, temperature=0, response_format=FORM).choices[0].message.content
    cut = chat(client, temperature=0, response_format=FORM, stop=['"größe"']).choices[0]
    assert cut.message.content == whole[: whole.index('"größe"')]
    assert cut.finish_reason == "stop"


def test_an_answer_that_max_tokens_cuts(client: openai.OpenAI) -> None:
    whole = chat(client, temperature=0, response_format=FORM)
    cut = chat(client, temperature=0, response_format=FORM, max_tokens=9)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage.completion_tokens == 9
    assert whole.choices[0].message.content.startswith(cut.choices[0].message.content)
    # As many tokens as the answer needs are enough.
    exact = chat(client, temperature=0, response_format=FORM, max_tokens=whole.usage.completion_tokens)
    assert exact.choices[0].finish_reason == "stop"
    check(exact.choices[0].message.content)


def test_any_object(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    # Closing quotes and brackets are likely, so that texts of random weights come to an end.
    bias = {str(token): 8 * value for token, value in closing_tokens(tokenizer).items()}
    for options in (
        {"response_format": {"type": "json_object"}},
        {"extra_body": {"structured_outputs": {"json_object": True}}},
    ):
        answer = chat(client, n=4, logit_bias=bias, max_tokens=300, **options)
        for choice in answer.choices:
            assert choice.finish_reason == "stop"
            assert isinstance(json.loads(choice.message.content), dict)


@pytest.mark.parametrize(
    ("wanted", "pattern"),
    [
        ({"regex": r"\d{2}:\d{2} (am|pm)"}, r"\d{2}:\d{2} (am|pm)"),
        ({"choice": ["yes", "no", "Größe 東京"]}, "yes|no|Größe 東京"),
        ({"grammar": 'start: "x" N "y"\nN: /[0-9]{2}/'}, r"x\d\dy"),
        ({"grammar": 'root ::= ("a" | "b") "c"'}, "[ab]c"),
        ({"json": {"enum": ["u", 1]}}, '"u"|1'),
        ({"json": '{"const": [true]}', "disable_any_whitespace": True}, r"\[true\]"),
    ],
)
def test_other_forms_in_chats_and_completions(client: openai.OpenAI, wanted: dict[str, Any], pattern: str) -> None:
    body = {"structured_outputs": wanted}
    for choice in chat(client, n=4, extra_body=body).choices:
        assert re.fullmatch(pattern, choice.message.content, re.ASCII)
        assert choice.finish_reason == "stop"
    prompts = ["Tunesmith", "The"]
    options: dict[str, Any] = {"model": "tiny", "prompt": prompts, "max_tokens": 40, "extra_body": body, "seed": 2}
    texts = [choice.text for choice in client.completions.create(**options).choices]
    assert all(re.fullmatch(pattern, text, re.ASCII) for text in texts)
    streamed = ["", ""]
    for chunk in client.completions.create(**options, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == texts


def test_many_requests_with_and_without_a_form_at_once(client: openai.OpenAI) -> None:
    patient = client.with_options(max_retries=9)
    alone = [chat(client, seed=seed, response_format=FORM).choices[0].message.content for seed in range(4)]
    free = chat(client, max_tokens=20, temperature=0).choices[0].message.content
    with ThreadPoolExecutor(8) as pool:
        bound = [pool.submit(chat, patient, seed=seed, response_format=FORM) for seed in range(4)]
        plain = [pool.submit(chat, patient, max_tokens=20, temperature=0) for _ in range(4)]
        assert [one.result().choices[0].message.content for one in bound] == alone
        assert {one.result().choices[0].message.content for one in plain} == {free}


class Kind(BaseModel):
    kind: Literal["cat", "dog"]
    legs: int | None


def test_parse_with_a_pydantic_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(model="tiny", messages=USER, response_format=Kind, seed=4)  # type: ignore[arg-type]
    parsed = answer.choices[0].message.parsed
    assert isinstance(parsed, Kind)
    with client.chat.completions.stream(model="tiny", messages=USER, response_format=Kind, seed=4) as stream:  # type: ignore[arg-type]
        assert stream.get_final_completion().choices[0].message.parsed == parsed


SCHEMA_PATH = "response_format.json_schema.schema"


def schema_form(schema: Any, **more: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, **more}}}


@pytest.mark.parametrize(
    ("options", "param", "words"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type", "json_schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "is required"),
        ({"response_format": {"type": "text", "json_schema": {"name": "x", "schema": {}}}},
         "response_format.json_schema", "write that type"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
         "response_format.json_schema.name", "required"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}},
         "response_format.json_schema.name", "pattern"),
        (schema_form({"not": {}}, strict=True), f"{SCHEMA_PATH}.not", "strict: false"),
        (schema_form({"properties": {"a": {"items": {"pattern": "(?=a)"}}}}),
         f"{SCHEMA_PATH}.properties.a.items.pattern", "without look-ahead"),
        (schema_form({"enum": ["x" * 300_000]}), SCHEMA_PATH, "at most"),
        ({"structured_outputs": {}}, "structured_outputs", "one of json, regex"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs", "regex and choice"),
        ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "structured_outputs",
         "leave one out"),
        ({"structured_outputs": {"regex": "[a"}}, "structured_outputs.regex", "unclosed"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice", "at least 1"),
        ({"structured_outputs": {"grammar": "start: A"}}, "structured_outputs.grammar", "unknown name"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json", "JSON schema"),
        ({"structured_outputs": {"json": {"uniqueItems": True}}}, "structured_outputs.json.uniqueItems", "boolean"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag", "use tools"),
        ({"structured_outputs": {"json": {}, "whitespace_pattern": " "}}, "structured_outputs.whitespace_pattern",
         "leave it out"),
        ({"guided_json": {}}, "guided_json", 'structured_outputs: {"json"'),
        ({"guided_regex": "a"}, "guided_regex", 'structured_outputs: {"regex"'),
        ({"guided_choice": ["a"]}, "guided_choice", 'structured_outputs: {"choice"'),
        ({"guided_grammar": "a"}, "guided_grammar", 'structured_outputs: {"grammar"'),
    ],
)  # fmt: skip
def test_forms_that_cannot_be_followed(server: ServingProcess, options: dict[str, Any], param: str, words: str) -> None:
    response = httpx.post(f"{server.url}/v1/chat/completions", json={"model": "tiny", "messages": USER, **options})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert words in error["message"]
    assert error["message"].startswith(param)


def test_without_strict_what_cannot_be_enforced_is_ignored(client: openai.OpenAI) -> None:
    schema = {**SCHEMA, "not": {"const": 1}}
    for strict in ({"strict": False}, {}):
        check(chat(client, **schema_form(schema, **strict)).choices[0].message.content)


def test_a_hostile_schema_does_not_stop_the_others(server: ServingProcess, client: openai.OpenAI) -> None:
    parts = [{"anyOf": [{"properties": {f"a{i}": {"const": one}}} for one in range(3)]} for i in range(40)]
    hostile = schema_form({"type": "object", "allOf": parts})
    with ThreadPoolExecutor(3) as pool:
        bad = [pool.submit(chat, client, **hostile) for _ in range(3)]
        assert httpx.get(f"{server.url}/healthz", timeout=300).status_code == 200
        check(chat(client, response_format=FORM).choices[0].message.content)
        for one in bad:
            with pytest.raises(openai.BadRequestError):
                one.result()
