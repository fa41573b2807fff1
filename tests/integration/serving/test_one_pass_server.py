"""A server of a classifier under many clients, odd bodies, and at its end."""

import asyncio
import json
import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.one_pass_artifacts import make_one_pass_artifact
from support.serving_process import ServingProcess, wait_until
from support.tiny_models import CORPUS, copy_artifact, write_manifest

WORDS = " ".join(CORPUS).split()
SLOTS, QUEUE = 4, 12


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier") / "model"
    return make_one_pass_artifact(folder, "sequenceClassification", precisions=("fp32", "int8"))


@pytest.fixture(scope="module")
def server(artifact: Path) -> Iterator[ServingProcess]:
    options = ("--precision", "fp32", "--threads", "1", "--slots", str(SLOTS), "--max-queue", str(QUEUE))
    with ServingProcess(artifact, *options) as process:
        yield process


def metrics(url: str) -> dict[str, float]:
    lines = [line.rsplit(" ", 1) for line in httpx.get(f"{url}/metrics").text.splitlines() if line[0] != "#"]
    return {name: float(value) for name, value in lines}


def texts(count: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randint(1, 40))) for _ in range(count)]


def test_each_answer_of_many_clients_is_the_one_alone(server: ServingProcess) -> None:
    asked = texts(160)
    with httpx.Client(base_url=server.url, timeout=300) as client:
        alone = [client.post("/predict", json={"inputs": text}).json() for text in asked]
    before = metrics(server.url)

    def ask(part: list[str]) -> list[Any]:
        with httpx.Client(base_url=server.url, timeout=300) as client:
            return [client.post("/predict", json={"inputs": text}).json() for text in part]

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(ask, [asked[start::16] for start in range(16)]))
    for start, answers in enumerate(found):
        for one, other in zip(answers, alone[start::16], strict=True):
            assert [entry["label"] for entry in one] == [entry["label"] for entry in other]
            assert all(abs(a["score"] - b["score"]) < 1e-5 for a, b in zip(one, other, strict=True))
    after = metrics(server.url)
    rows, batches = (after[name] - before[name] for name in ("tunesmith_rows_total", "tunesmith_batches_total"))
    assert rows == 160
    assert batches < 160, "nothing was computed together"
    assert (after["tunesmith_slots"], after["tunesmith_slots_in_use"], after["tunesmith_queue_length"]) == (SLOTS, 0, 0)
    assert after['tunesmith_requests_total{code="200",route="/predict"}'] >= 320


def test_a_full_queue_answers_429_and_clients_that_leave_make_room(server: ServingProcess) -> None:
    async def run() -> list[int]:
        body = {"inputs": [["word " * 60]] * (SLOTS + QUEUE)}
        codes: list[int] = []

        async def flood(client: httpx.AsyncClient) -> None:
            answer = await client.post("/predict", json=body)
            codes.append(answer.status_code)
            if answer.status_code == 429:
                assert 1 <= int(answer.headers["Retry-After"]) <= 60
                assert answer.json()["error_type"] == "Overloaded"

        async with httpx.AsyncClient(base_url=server.url, timeout=300) as client:
            await asyncio.gather(*(flood(client) for _ in range(24)))
            left = [asyncio.create_task(flood(client)) for _ in range(12)]
            await asyncio.sleep(0.05)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        return codes

    codes = asyncio.run(run())
    assert set(codes) == {200, 429}
    wait_until(lambda: metrics(server.url)["tunesmith_queue_length"] == 0)
    assert httpx.post(f"{server.url}/", json={"inputs": ["a"] * (SLOTS + QUEUE)}).status_code == 200


ROUTES = ("/", "/models/model", "/predict", "/v2/models/model/infer", "/v2/models/model/versions/1/infer")
PIECES: tuple[Any, ...] = (
    None, True, -1, 1e308, "", "a fox", "\ud800", "[SEP]", "\x00", [], [[]], {}, ["a"], ["a", "b"], {"text": "a"},
    {"text": "a", "text_pair": 3}, {"question": "a", "context": "b"}, "BYTES", "FP32", "text", [1], [-1], [2**70],
    {"top_k": 0}, {"top_k": 2**80}, {"function_to_apply": "x"}, {"binary_data_size": 3}, {"binary_data_output": True},
    {"truncation": "only_second"}, {"binary_data": [1]}, "😀" * 50, "word " * 200,
)  # fmt: skip
KEYS = (
    "inputs", "parameters", "options", "raw_scores", "truncate", "name", "shape", "datatype", "data", "outputs", "id",
    "text", "text_pair", "top_k",
)  # fmt: skip


def some_body(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.random()
    if depth > 3 or kind < 0.35:
        return chance.choice(PIECES)
    if kind < 0.55:
        return [some_body(chance, depth + 1) for _ in range(chance.randint(0, 3))]
    keys = chance.sample(KEYS, chance.randint(1, 4))
    return {key: some_body(chance, depth + 1) for key in keys}


def a_tensor_body(chance: random.Random) -> Any:
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a fox"]}
    if chance.random() < 0.5:
        tensor[chance.choice(list(tensor))] = chance.choice(PIECES)
    body = {"inputs": [tensor], "parameters": {}, "outputs": [{"name": "label"}]}
    if chance.random() < 0.5:
        body[chance.choice(list(body))] = some_body(chance, 2)
    return body


def test_two_thousand_odd_bodies_never_break_the_server(server: ServingProcess) -> None:
    chance = random.Random(7)
    codes: dict[int, int] = {}
    with httpx.Client(base_url=server.url, timeout=300) as client:
        for _ in range(2000):
            kind = chance.random()
            if kind < 0.3:
                body = {"inputs": chance.choice([*PIECES, some_body(chance, 1)])}
                if chance.random() < 0.3:
                    body["parameters"] = some_body(chance, 2)
            elif kind < 0.6:
                body = a_tensor_body(chance)
            else:
                body = some_body(chance)
            raw = json.dumps(body).encode()
            headers = {}
            if chance.random() < 0.2:
                cut = chance.randint(0, len(raw))
                raw = raw[:cut] + bytes(chance.choices(range(256), k=chance.randint(0, 9))) + raw[cut:]
            if chance.random() < 0.1:
                headers["Inference-Header-Content-Length"] = chance.choice(["-1", "x", "٣", "0", str(len(raw) // 2)])
                headers = {key: value for key, value in headers.items() if value.isascii()}
            path = chance.choice(ROUTES)
            answer = client.post(path, content=raw, headers=headers)
            assert answer.status_code < 500, (path, raw, headers, answer.text)
            if answer.status_code != 200:
                assert isinstance(answer.json()["error"], str), (path, raw, answer.text)
            codes[answer.status_code] = codes.get(answer.status_code, 0) + 1
    assert codes[200] > 50 and codes[400] > 500 and codes[422] > 100, codes
    assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_requests_in_flight_are_finished_at_the_end(artifact: Path) -> None:
    options = ("--precision", "fp32", "--threads", "1", "--max-queue", "500", "--drain-seconds", "0.5")
    with ServingProcess(artifact, *options) as server:
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(httpx.post(f"{server.url}/", json={"inputs": ["word " * 60] * 400}, timeout=300))

        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: metrics(server.url)["tunesmith_slots_in_use"] > 0)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
        assert httpx.get(f"{server.url}/v2/health/ready").json() == {"ready": False}
        thread.join(300)
        assert server.process.wait(300) == 0
    (answer,) = answers
    assert answer.status_code == 200 and len(answer.json()) == 400


def test_the_smallest_precision_is_served(artifact: Path) -> None:
    with ServingProcess(artifact, "--threads", "1") as server:
        assert httpx.get(f"{server.url}/info").json()["model_dtype"] == "int8"
        (found,) = httpx.post(f"{server.url}/", json={"inputs": "a fox"}).json()
        assert {entry["label"] for entry in found} == {"good", "bad", "so so"}


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("task.json", {"maxLength": 0}, "maxLength is 0"),
        ("task.json", {"problemType": "guess"}, "problemType is 'guess'"),
        ("config.json", {"id2label": {"0": "a", "1": "a", "2": "b"}}, "id2label must name the classes"),
        ("config.json", {"id2label": {"0": "a", "1": "b"}}, "names 2 classes, and the model has 3|computes 3 classes"),
        ("tokenizer.json", {"model": 1}, "tokenizer.json cannot be loaded"),
        ("task.json", None, "does not list onnx/fp32/task.json"),
    ],
)
def test_a_broken_artifact_is_refused(artifact: Path, tmp_path: Path, file: str, change: Any, said: str) -> None:
    from tunesmith_serving.artifact.opening import open_artifact
    from tunesmith_serving.engines.base import EngineFailedError
    from tunesmith_serving.engines.registry import load_engine
    from tunesmith_serving.runtime.config import ServingConfig
    from tunesmith_serving.runtime.errors import ArtifactError

    broken = copy_artifact(artifact, tmp_path / "broken")
    path = broken / "onnx" / "fp32" / file
    if change is None:
        path.unlink()
    else:
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    write_manifest(broken, task="sequenceClassification")
    with pytest.raises((ArtifactError, EngineFailedError), match=said):
        load_engine(open_artifact(broken, "fp32"), ServingConfig(precision="fp32", threads=1)).warm_up(60)
