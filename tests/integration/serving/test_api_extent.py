"""Several answers and prompts, penalties and bias, echo, vLLM's token routes, and messages as clients send them."""

from typing import Any

import httpx
import openai
import pytest

from support.serving_process import ServingProcess
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer

USER = [{"role": "user", "content": "What is the learning rate?"}]
MANY = {"max_tokens": 12, "temperature": 1, "seed": 7}


def chat(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(
        **{"model": "tiny", "messages": USER, "max_tokens": 24, "temperature": 0, **options}
    )


def complete(client: openai.OpenAI, **options: Any) -> Any:
    return client.completions.create(
        **{"model": "tiny", "prompt": "Tunesmith", "max_tokens": 12, "temperature": 0, **options}
    )


def content(answer: Any) -> str:
    return answer.choices[0].message.content


def streamed(chunks: list[Any], index: int) -> str:
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == [choices[-1].finish_reason]
    return "".join(choice.delta.content or "" if hasattr(choice, "delta") else choice.text for choice in choices)


def test_several_answers(client: openai.OpenAI) -> None:
    alone = chat(client, **MANY)
    answers = chat(client, **MANY, n=4)
    assert [choice.index for choice in answers.choices] == [0, 1, 2, 3]
    texts = [choice.message.content for choice in answers.choices]
    assert texts[0] == content(alone)
    assert len(set(texts)) == 4
    assert texts == [choice.message.content for choice in chat(client, **MANY, n=4).choices]
    assert answers.usage.prompt_tokens == alone.usage.prompt_tokens
    assert answers.usage.completion_tokens == 4 * 12
    unseeded = chat(client, max_tokens=12, temperature=1, n=3)
    assert len({choice.message.content for choice in unseeded.choices}) == 3
    chunks = list(chat(client, **MANY, n=4, stream=True, stream_options={"include_usage": True}))
    assert [streamed(chunks, index) for index in range(4)] == texts
    assert chunks[-1].usage == answers.usage


def test_logprobs_of_several_answers(client: openai.OpenAI) -> None:
    answers = complete(client, **MANY, n=2, logprobs=1)
    for choice in answers.choices:
        assert len(choice.logprobs.token_logprobs) == 12
        assert choice.logprobs.text_offset[0] == 0


def test_several_prompts(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    alone = [complete(client, prompt=prompt) for prompt in ("Tunesmith", "The quick brown")]
    both = complete(client, prompt=["Tunesmith", "The quick brown"])
    assert [choice.text for choice in both.choices] == [answer.choices[0].text for answer in alone]
    assert both.usage.prompt_tokens == sum(answer.usage.prompt_tokens for answer in alone)
    ids = [tokenizer.encode(text, add_special_tokens=True) for text in ("Tunesmith", "The quick brown")]
    assert [choice.text for choice in complete(client, prompt=ids).choices] == [c.text for c in both.choices]
    four = complete(client, prompt=["Tunesmith", "The quick brown"], n=2, best_of=2, temperature=1, seed=3)
    assert [choice.index for choice in four.choices] == [0, 1, 2, 3]
    second = complete(client, prompt="The quick brown", n=2, temperature=1, seed=3)
    assert [choice.text for choice in four.choices[2:]] == [choice.text for choice in second.choices]
    chunks = list(complete(client, prompt=["Tunesmith", "The quick brown"], stream=True))
    assert [streamed(chunks, index) for index in range(2)] == [choice.text for choice in both.choices]


def test_the_message_names_the_prompt(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"prompt\[1\]: the prompt has \d+ tokens") as caught:
        complete(client, prompt=["a", "word " * 2000], n=2)
    assert caught.value.param == "prompt"
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="at most 8"):
        complete(client, prompt=["a", "b", "c"], n=3)


@pytest.mark.parametrize("stream", [False, True])
def test_echo(client: openai.OpenAI, tokenizer: Tokenizer, stream: bool) -> None:
    plain = complete(client, prompt=["Tunesmith", "The quick brown"])
    ids = tokenizer.encode("Grüße", add_special_tokens=True)
    for prompt, expected in [
        (["Tunesmith", "The quick brown"], ["Tunesmith", "The quick brown"]),
        (ids, ["Grüße"]),
    ]:
        answer = complete(client, prompt=prompt, echo=True, stream=stream)
        chunks = list(answer) if stream else []
        texts = (
            [streamed(chunks, index) for index in range(len(expected))] if stream else [c.text for c in answer.choices]
        )
        assert all(text.startswith(begin) for text, begin in zip(texts, expected, strict=True))
        if prompt != ids:
            assert texts == [b + choice.text for b, choice in zip(expected, plain.choices, strict=True)]


def test_logit_bias_bans_and_forces(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    likeliest, banned = tokenizer.token_id("a"), tokenizer.token_id("b")
    assert likeliest is not None and banned is not None
    bias = {str(likeliest): 100, str(banned): -100}
    assert content(chat(client, max_tokens=6, logit_bias=bias)) == "aaaaaa"
    # The model likes neither: that one is never sampled shows only where it would be.
    hot = {"max_tokens": 40, "temperature": 1, "seed": 1}
    both = {str(likeliest): 60, str(banned): 60}
    assert set(content(chat(client, **hot, logit_bias=both))) == {"a", "b"}


def test_penalties_reduce_repetition(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    bias = {str(tokenizer.token_id(letter)): 40 for letter in "abcdefgh"}
    plain = content(chat(client, max_tokens=8, logit_bias=bias))
    assert len(set(plain)) < 8
    for penalty in ({"frequency_penalty": 2.0}, {"presence_penalty": 2.0}, {"extra_body": {"repetition_penalty": 3.0}}):
        answer = content(chat(client, max_tokens=8, logit_bias=bias, **penalty))
        assert set(answer) <= set("abcdefgh")
        assert len(set(answer)) > len(set(plain)), penalty


def test_top_k_and_min_p_of_one_token_are_greedy(client: openai.OpenAI) -> None:
    greedy = content(chat(client))
    hot = {"temperature": 1.5, "seed": 1}
    assert content(chat(client, **hot)) != greedy
    assert content(chat(client, **hot, extra_body={"top_k": 1})) == greedy
    assert content(chat(client, **hot, extra_body={"min_p": 1.0})) == greedy


def test_own_answers_are_taken_back(client: openai.OpenAI, server: ServingProcess) -> None:
    message = chat(client).choices[0].message
    more = {"role": "user", "content": "more?"}
    plain = chat(client, messages=[*USER, {"role": "assistant", "content": message.content}, more])
    for sent in (message, message.model_dump()):
        assert content(chat(client, messages=[*USER, sent, more])) == content(plain)
    raw = httpx.post(f"{server.url}/v1/chat/completions", json={"model": "tiny", "messages": USER, "max_tokens": 4})
    ours = raw.json()["choices"][0]["message"]
    again = {"model": "tiny", "messages": [*USER, ours, more], "max_tokens": 4}
    assert httpx.post(f"{server.url}/v1/chat/completions", json=again).status_code == 200


def test_fields_of_messages_that_change_nothing(client: openai.OpenAI) -> None:
    assistant = {"role": "assistant", "content": "a"}
    decorated = {
        **assistant,
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": [],
        "name": "bot",
        "reasoning_content": None,
        "provider_specific_fields": {"refusal": None},
    }
    plain, same = (
        chat(client, messages=[{**USER[0], **extra}, turn, USER[0]])
        for turn, extra in ((assistant, {}), (decorated, {"name": "bob"}))
    )
    assert content(same) == content(plain)
    assert same.usage.prompt_tokens == plain.usage.prompt_tokens


def test_text_parts_are_joined_as_in_training(client: openai.OpenAI) -> None:
    def tokens(value: object) -> tuple[str, int]:
        answer = chat(client, messages=[{"role": "user", "content": value}])
        return content(answer), answer.usage.prompt_tokens

    parts = [
        {"type": "text", "text": "alpha", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "beta"},
    ]
    assert tokens(parts) == tokens("alphabeta") != tokens("alpha\nbeta")


def test_an_empty_system_turn_is_left_out_as_in_training(client: openai.OpenAI) -> None:
    chat(client, max_tokens=1)  # of both that follow, the prefix cache has as much
    assert chat(client, messages=[{"role": "system", "content": ""}, *USER]).usage == chat(client).usage


def test_help_says_what_works(client: openai.OpenAI) -> None:
    for options, words in [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "template says nothing of tools"),
        ({"extra_body": {"max_token": 3}}, "did you mean max_tokens"),
    ]:
        with pytest.raises(openai.BadRequestError, match=words):
            chat(client, **options)


def post(server: ServingProcess, path: str, **body: Any) -> httpx.Response:
    return httpx.post(server.url + path, json=body)


def test_tokenize_text(server: ServingProcess, tokenizer: Tokenizer, client: openai.OpenAI) -> None:
    got = post(server, "/tokenize", model="tiny", prompt="Grüße aus Köln").json()
    ids = tokenizer.encode("Grüße aus Köln", add_special_tokens=True)
    assert got == {"count": len(ids), "max_model_len": 512, "tokens": ids, "token_strs": None}
    strings = post(server, "/tokenize", prompt="Grüße", return_token_strs=True).json()["token_strs"]
    assert "".join(strings).startswith("Gr")
    assert post(server, "/detokenize", model="tiny", tokens=ids).json() == {"prompt": "Grüße aus Köln"}
    assert client.models.retrieve("tiny").model_dump()["max_model_len"] == 512


def test_tokenize_conversation(server: ServingProcess, client: openai.OpenAI) -> None:
    got = post(server, "/tokenize", model="tiny", messages=USER).json()
    answer = chat(client, max_tokens=1)
    assert got["count"] == len(got["tokens"]) == answer.usage.prompt_tokens
    by_ids = complete(client, prompt=got["tokens"], max_tokens=24)
    assert by_ids.choices[0].text == content(chat(client))
    text = post(server, "/detokenize", tokens=got["tokens"]).json()["prompt"]
    assert text == "<|im_start|>user\nWhat is the learning rate?<|im_end|>\n<|im_start|>assistant\n"
    bare = post(server, "/tokenize", messages=USER, add_generation_prompt=False).json()["tokens"]
    assert text.startswith(post(server, "/detokenize", tokens=bare).json()["prompt"])
    assert len(bare) < got["count"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": USER}, "prompt"),
        ("/tokenize", {"prompt": 5}, "prompt"),
        ("/tokenize", {"messages": USER, "continue_final_message": True}, "continue_final_message"),
        ("/detokenize", {"tokens": [5, 100_000]}, "tokens[1]"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {"tokens": [1 << 32]}, "tokens[0]"),
        ("/detokenize", {}, "tokens"),
    ],
)
def test_bad_token_requests(server: ServingProcess, path: str, body: dict[str, Any], param: str) -> None:
    response = post(server, path, **body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_token_routes_know_the_model(server: ServingProcess) -> None:
    assert post(server, "/tokenize", model="other", prompt="a").status_code == 404
