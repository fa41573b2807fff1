"""Translation over HTTP, by the clients that people use, and by requests that no client sends."""

import asyncio
import random
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import tritonclient.http
from huggingface_hub import InferenceClient
from huggingface_hub.errors import BadRequestError

from support.serving_process import ServingProcess, wait_until
from support.tiny_models import CORPUS
from support.tiny_translation import make_translator

OPTIONS = ("--precision", "fp32", "--model-name", "mini", "--threads", "1", "--context-length", "512")
TEXT = "The quick brown fox"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_translator(tmp_path_factory.mktemp("translator") / "mt5", "mt5", languages=True, prefix="translate: ")


@pytest.fixture(scope="module")
def server(artifact: Path) -> Iterator[ServingProcess]:
    with ServingProcess(artifact, *OPTIONS, "--slots", "4", "--max-queue", "40") as process:
        yield process


@pytest.fixture
def client(server: ServingProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def chat(client: openai.OpenAI, text: str = TEXT, **options: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(**{"model": "mini", "messages": messages, "max_tokens": 24, **options})


def translation(server: ServingProcess, text: str = TEXT, **parameters: Any) -> str:
    body = {"inputs": text, "parameters": {"max_new_tokens": 24, **parameters}}
    response = httpx.post(f"{server.url}/", json=body, timeout=300)
    assert response.status_code == 200, response.text
    (answer,) = response.json()
    return answer["translation_text"]


def test_chat_completions(server: ServingProcess, client: openai.OpenAI) -> None:
    whole = chat(client)
    assert whole.choices[0].message.content == translation(server) != ""
    assert whole.usage.completion_tokens <= 24
    # The prefix, the language and the end of the sentence are counted too: the model reads them.
    assert whole.usage.prompt_tokens > chat(client, "").usage.prompt_tokens > 2
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert [model.id for model in client.models.list()] == ["mini"]


def test_earlier_turns_are_not_read(client: openai.OpenAI) -> None:
    turns = [
        {"role": "system", "content": ""},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "eins"},
        {"role": "user", "content": TEXT},
    ]
    assert chat(client, messages=turns).choices[0].message.content == chat(client).choices[0].message.content


def test_sampling_and_languages_by_chat(client: openai.OpenAI) -> None:
    texts = [chat(client, temperature=1.5, seed=seed).choices[0].message.content for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    french = {"extra_body": {"src_lang": "eng_Latn", "tgt_lang": "fra_Latn"}}
    assert chat(client, **french).choices[0].message.content != chat(client).choices[0].message.content


@pytest.mark.parametrize(
    ("options", "param", "says"),
    [
        ({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"}]}, "messages",
         "leave out the system message"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "messages",
         "the last message must be the user's"),
        ({"extra_body": {"tgt_lang": "French"}}, "tgt_lang", "deu_Latn, eng_Latn, fra_Latn"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "leave it out"),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, "messages", "takes at most 511"),
    ],
)  # fmt: skip
def test_bad_chat_requests(client: openai.OpenAI, options: dict[str, Any], param: str, says: str) -> None:
    with pytest.raises(openai.BadRequestError, match=says) as caught:
        chat(client, **options)
    assert caught.value.param == param


def test_inference_client(server: ServingProcess) -> None:
    client = InferenceClient(server.url)
    parameters = {"max_new_tokens": 24}
    answer = client.translation(TEXT, generate_parameters=parameters)
    assert answer.translation_text == translation(server)
    pair = {"src_lang": "eng_Latn", "tgt_lang": "fra_Latn"}
    french = client.translation(TEXT, generate_parameters=parameters, **pair)
    assert french.translation_text == translation(server, **pair) != answer.translation_text
    with pytest.raises(BadRequestError, match="xxx_Latn"):
        client.translation(TEXT, src_lang="xxx_Latn", tgt_lang="fra_Latn")
    long = client.translation("word " * 3000, truncation="longest_first", generate_parameters={"max_new_tokens": 2})
    assert isinstance(long.translation_text, str)


def test_several_inputs_and_kserve(server: ServingProcess) -> None:
    texts = [TEXT, "one", "What is the learning rate?"]
    alone = [translation(server, text) for text in texts]
    body = {"inputs": texts, "parameters": {"max_new_tokens": 24}}
    answers = httpx.post(f"{server.url}/models/mini", json=body).json()
    assert [answer["translation_text"] for answer in answers] == alone
    client = tritonclient.http.InferenceServerClient(server.url.removeprefix("http://"))
    assert client.is_model_ready("mini")
    given = tritonclient.http.InferInput("text", [3], "BYTES")
    given.set_data_from_numpy(np.array(texts, dtype=object))
    found = client.infer("mini", [given], parameters={"max_new_tokens": 24}).as_numpy("translation_text")
    assert [value.decode() for value in found] == alone


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"inputs": 5}, "inputs: must be a string"),
        ({"inputs": ["a", {}]}, r"inputs\[1\]: must be a string"),
        ({"inputs": []}, "inputs: must not be empty"),
        ({"inputs": "a", "parameters": {"max_new_tokens": 0}}, "parameters.max_new_tokens"),
        ({"inputs": "a", "parameters": {"num_beams": 4}}, "num_beams: .* without beams"),
        ({"inputs": "a", "parameters": {"max_length": 4}}, "parameters.max_length: .* unknown"),
        ({"inputs": "a", "parameters": {"generate_parameters": [1]}}, "generate_parameters: must be an object"),
        ({"inputs": "a", "parameters": {"truncation": "only_second"}}, "truncation"),
        ({"inputs": "word " * 3000}, "takes at most 511; send shorter parts"),
        ({"inputs": "a", "stream": True}, "stream: this model answers at once"),
    ],
)
def test_bad_task_requests(server: ServingProcess, body: dict[str, Any], says: str) -> None:
    response = httpx.post(f"{server.url}/", json=body)
    assert response.status_code == 400, response.text
    assert re.search(says, response.json()["error"])


def test_many_clients_with_cancellations_get_what_they_get_alone(server: ServingProcess) -> None:
    words = " ".join(CORPUS).split()
    draw = random.Random(4)
    asked = [
        (" ".join(draw.choices(words, k=draw.choice([1, 3, 12, 30]))), draw.choice([1, 6, 20, 60])) for _ in range(30)
    ]
    alone = [translation(server, text, max_new_tokens=limit) for text, limit in asked]

    async def run() -> list[str | None]:
        limits = httpx.Limits(max_connections=40)
        async with httpx.AsyncClient(base_url=server.url, timeout=300, limits=limits) as client:

            async def ask(index: int) -> str | None:
                text, limit = asked[index]
                await asyncio.sleep(draw.random() / 5)
                if index % 4 == 3:
                    body = {"inputs": [text] * 2, "parameters": {"max_new_tokens": 400}}
                    task = asyncio.create_task(client.post("/", json=body))
                    await asyncio.sleep(draw.random() / 10)
                    task.cancel()
                    return None
                if index % 4 == 2:
                    messages = [{"role": "user", "content": text}]
                    body = {"model": "mini", "messages": messages, "max_tokens": limit}
                    answer = await client.post("/v1/chat/completions", json=body)
                    assert answer.status_code == 200, answer.text
                    return answer.json()["choices"][0]["message"]["content"]
                answer = await client.post("/", json={"inputs": text, "parameters": {"max_new_tokens": limit}})
                assert answer.status_code == 200, answer.text
                return answer.json()[0]["translation_text"]

            return list(await asyncio.gather(*(ask(index) for index in range(len(asked)))))

    answers = asyncio.run(run())
    assert [answer for answer in answers if answer is not None] == [
        text for text, answer in zip(alone, answers, strict=True) if answer is not None
    ]
    assert sum(answer is None for answer in answers) == 7
    wait_until(lambda: metric(server, "tunesmith_slots_in_use") == metric(server, "tunesmith_queue_length") == 0)


def metric(server: ServingProcess, name: str) -> float:
    lines = dict(line.rsplit(" ", 1) for line in httpx.get(f"{server.url}/metrics").text.splitlines() if line[0] != "#")
    return float(lines[name])


def test_metrics_count_tokens(server: ServingProcess) -> None:
    before = [metric(server, f"tunesmith_{name}_tokens_total") for name in ("prompt", "generated")]
    body = {"model": "mini", "messages": [{"role": "user", "content": TEXT}], "max_tokens": 7}
    usage = httpx.post(f"{server.url}/v1/chat/completions", json=body).json()["usage"]
    after = [metric(server, f"tunesmith_{name}_tokens_total") for name in ("prompt", "generated")]
    assert [new - old for new, old in zip(after, before, strict=True)] == [
        usage["prompt_tokens"],
        usage["completion_tokens"],
    ]
    assert metric(server, "tunesmith_time_to_first_token_seconds_count") > 0


def test_drain_finishes_what_runs_and_a_full_queue_says_429(artifact: Path) -> None:
    with ServingProcess(artifact, *OPTIONS, "--slots", "1", "--max-queue", "2") as server:
        # Never the end of the sentence: each answer takes all 500 tokens.
        never = {"logit_bias": {"1": -100}, "max_tokens": 500}
        body = {"model": "mini", "messages": [{"role": "user", "content": "fox"}], **never}
        url = f"{server.url}/v1/chat/completions"
        answers: list[httpx.Response] = []
        threads = [
            threading.Thread(target=lambda: answers.append(httpx.post(url, json=body, timeout=300))) for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: metric(server, "tunesmith_slots_in_use") == 1)
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(300)
        assert server.process.wait(300) == 0
        by_status = {status: [a for a in answers if a.status_code == status] for status in (200, 429, 503)}
        assert sum(map(len, by_status.values())) == 12
        assert len({answer.json()["choices"][0]["message"]["content"] for answer in by_status[200]}) == 1
        assert by_status[429] or by_status[503]
        for refused in (*by_status[429], *by_status[503]):
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["error"]["code"] in ("queue_full", "unavailable")
