"""The protocols of tasks, called by the clients that people have: huggingface_hub, tritonclient, and plain HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from support.one_pass_artifacts import make_one_pass_artifact
from support.serving_process import ServingProcess

TEXT = "The learning rate is the size of each step."
GIVEN = {"question": "What is the learning rate?", "context": f"The quick brown fox. {TEXT} " * 8}
INPUTS: dict[str, Any] = {
    "sequenceClassification": TEXT,
    "tokenClassification": TEXT,
    "questionAnswering": GIVEN,
}


@pytest.fixture(scope="module", params=list(INPUTS))
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A task, and the URL of a server of it, called `tiny`."""
    folder = make_one_pass_artifact(tmp_path_factory.mktemp("served") / "model", request.param)
    with ServingProcess(
        folder, "--model-name", "tiny", "--threads", "1", "--slots", "4", "--max-queue", "28"
    ) as server:
        yield request.param, server.url


def close(found: Any, expected: Any) -> bool:
    """Whether two answers are equal, but for the rounding of batches of other sizes."""
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close(found[key], expected[key]) for key in expected)
    return bool(found == pytest.approx(expected, abs=1e-5)) if isinstance(expected, float) else found == expected


def post(url: str, path: str, body: Any, **options: Any) -> httpx.Response:
    return httpx.post(f"{url}{path}", json=body, timeout=300, **options)


def test_the_inference_client(served: tuple[str, str]) -> None:
    task, url = served
    answers = post(url, "/", {"inputs": INPUTS[task]}).json()
    for address in (url, f"{url}/models/tiny"):
        client = InferenceClient(model=address)
        if task == "sequenceClassification":
            found = client.text_classification(TEXT)
            assert [dict(element) for element in found] == answers[0]
            assert len(client.text_classification(TEXT, top_k=2, function_to_apply="sigmoid")) == 2
            assert {element.label for element in found} == {"good", "bad", "so so"}
            assert sum(element.score for element in found) == pytest.approx(1, abs=1e-5)
        elif task == "tokenClassification":
            found = client.token_classification(TEXT)
            assert [{k: v for k, v in element.items() if k != "entity"} for element in found] == answers
            assert found and all(TEXT[element.start : element.end] for element in found)
            tokens = client.token_classification(TEXT, aggregation_strategy="none", ignore_labels=[])
            assert len(tokens) > len(found) and all(token.entity for token in tokens)
        else:
            (found,) = [client.question_answering(**GIVEN)]
            assert dict(found) == answers
            assert GIVEN["context"][found.start : found.end] == found.answer
            assert len(client.question_answering(**GIVEN, top_k=3, max_answer_len=2)) == 3
    with pytest.raises(HfHubHTTPError, match="top_k|aggregation_strategy"):
        _wrong_parameter(InferenceClient(model=url), task)


def _wrong_parameter(client: InferenceClient, task: str) -> None:
    if task == "tokenClassification":
        client.token_classification(TEXT, aggregation_strategy="most")  # type: ignore[arg-type]
    elif task == "questionAnswering":
        client.question_answering(**GIVEN, top_k=0)
    else:
        client.text_classification(TEXT, top_k=0)


def test_several_inputs_at_once(served: tuple[str, str]) -> None:
    task, url = served
    one = post(url, "/", {"inputs": INPUTS[task]}).json()
    several = post(url, "/models/tiny", {"inputs": [INPUTS[task]] * 3, "parameters": None}).json()
    assert close(several, one * 3 if task == "sequenceClassification" else [one] * 3)
    assert post(url, "/", {"inputs": []}).json() == []


def test_errors_of_the_task_api(served: tuple[str, str]) -> None:
    task, url = served
    bodies: list[tuple[Any, str]] = [
        ({}, "inputs: Field required"),
        ({"inputs": None}, "inputs: must be"),
        ({"inputs": [INPUTS[task], 7]}, "inputs[1]: must be"),
        ({"inputs": INPUTS[task], "parameters": {"temperature": 1}}, "parameters.temperature: this task does not have"),
        ({"inputs": INPUTS[task], "nonsense": 1}, "nonsense: this server does not know this field"),
        ({"inputs": INPUTS[task], "stream": True}, "stream: "),
    ]
    for body, said in bodies:
        answer = post(url, "/", body)
        assert answer.status_code == 400, body
        assert list(answer.json()) == ["error"] and said in answer.json()["error"], (body, answer.text)
    assert post(url, "/models/other", {"inputs": INPUTS[task]}).status_code == 404
    many = post(url, "/", {"inputs": [INPUTS[task]] * 33})
    assert (many.status_code, "at most 32" in many.json()["error"]) == (413, True)
    large = httpx.post(f"{url}/", content=b'{"inputs": "' + b"a" * (5 << 20) + b'"}', timeout=300)
    assert (large.status_code, "larger than" in large.json()["error"]) == (413, True)
    zipped = httpx.post(f"{url}/", content=b"x", headers={"Content-Encoding": "gzip"})
    assert zipped.status_code == 415
    assert list(httpx.get(f"{url}/v1/nothing").json()["error"]) == ["message", "type", "param", "code"]
    assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "tiny"
    assert httpx.get(f"{url}/v1/models/tiny").json()["task"] == task


def test_text_embeddings_inference(served: tuple[str, str]) -> None:
    task, url = served
    if task != "sequenceClassification":
        assert post(url, "/predict", {"inputs": TEXT}).status_code == 404
        return
    one = post(url, "/predict", {"inputs": TEXT}).json()
    assert [one] == post(url, "/", {"inputs": TEXT}).json()
    assert post(url, "/predict", {"inputs": [TEXT]}).json() == one
    assert close(post(url, "/predict", {"inputs": [[TEXT], [TEXT], TEXT]}).json(), [one] * 3)
    pair = post(url, "/predict", {"inputs": ["a fox", "a dog"]}).json()
    assert [pair] == post(url, "/", {"inputs": {"text": "a fox", "text_pair": "a dog"}}).json()
    assert close(post(url, "/predict", {"inputs": [["a fox", "a dog"], ["a"]]}).json()[0], pair)
    raw = post(url, "/predict", {"inputs": TEXT, "raw_scores": True}).json()
    logits = np.array([entry["score"] for entry in raw])
    assert np.allclose(np.exp(logits) / np.exp(logits).sum(), [entry["score"] for entry in one], atol=1e-5)
    long = "epoch " * 300
    assert post(url, "/predict", {"inputs": long}).status_code == 200
    left = post(url, "/predict", {"inputs": f"{TEXT} {long}", "truncate": True, "truncation_direction": "Left"})
    assert left.json() == post(url, "/predict", {"inputs": long, "truncation_direction": "left"}).json()
    wrong = [
        ({"inputs": long, "truncate": False}, 422, "inputs: has "),
        ({"inputs": ["a", "b", "c"]}, 422, "inputs: must be"),
        ({"inputs": [["a", "b", "c"]]}, 422, "inputs[0]: must be"),
        ({"inputs": []}, 422, "inputs: must be"),
        ({"inputs": "a", "truncate": "yes"}, 422, "truncate: "),
        ({"inputs": [["a"]] * 40}, 413, "at most 32"),
    ]
    for body, status, said in wrong:
        answer = post(url, "/predict", body)
        assert (answer.status_code, answer.json()["error_type"]) == (status, "Validation"), (body, answer.text)
        assert said in answer.json()["error"]
    info = httpx.get(f"{url}/info").json()
    assert info["model_type"]["classifier"]["id2label"] == {"0": "good", "1": "bad", "2": "so so"}
    assert (info["model_id"], info["max_input_length"], info["max_client_batch_size"]) == ("tiny", 64, 32)


def tensors(task: str, count: int, binary: bool) -> list[triton.InferInput]:
    names = {"question": GIVEN["question"], "context": GIVEN["context"]} if task[0] == "q" else {"text": TEXT}
    found = []
    for name, value in names.items():
        tensor = triton.InferInput(name, [count], "BYTES")
        tensor.set_data_from_numpy(np.array([value] * count, dtype=object), binary_data=binary)
        found.append(tensor)
    return found


@pytest.mark.parametrize("binary", [True, False])
def test_the_open_inference_protocol(served: tuple[str, str], binary: bool) -> None:
    task, url = served
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("tiny") and client.is_model_ready("tiny", "1")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("tiny", "1")
    answers = post(url, "/", {"inputs": [INPUTS[task]] * 2}).json()
    found = client.infer("tiny", tensors(task, 2, binary), request_id="7")
    assert found.get_response()["id"] == "7"
    assert close([json.loads(text) for text in found.as_numpy("output")], answers)
    assert {output["name"] for output in found.get_response()["outputs"]} == {
        one["name"] for one in metadata["outputs"]
    }
    if task == "sequenceClassification":
        wanted = [triton.InferRequestedOutput("scores", binary_data=binary)]
        wanted.append(triton.InferRequestedOutput("label", binary_data=not binary))
        found = client.infer("tiny", tensors(task, 2, binary), outputs=wanted, model_version="1")
        scores = {entry["label"]: entry["score"] for entry in answers[0]}
        assert found.as_numpy("scores").dtype == np.float32
        assert np.allclose(found.as_numpy("scores"), [[scores["good"], scores["bad"], scores["so so"]]] * 2, atol=1e-6)
        labels = [one.decode() if isinstance(one, bytes) else one for one in found.as_numpy("label")]
        assert labels == [answers[0][0]["label"]] * 2
        found = client.infer("tiny", tensors(task, 1, binary), outputs=wanted[1:], parameters={"top_k": 1})
        assert len(found.as_numpy("label")) == 1
    elif task == "questionAnswering":
        assert found.as_numpy("start").dtype == np.int64
        assert found.as_numpy("start").tolist() == [answers[0]["start"]] * 2
        assert found.as_numpy("answer").tolist() == [answers[0]["answer"].encode()] * 2
    with pytest.raises(InferenceServerException, match="the model 'other' does not exist"):
        client.infer("other", tensors(task, 1, binary))
    with pytest.raises(InferenceServerException, match="outputs.logits: does not exist"):
        client.infer("tiny", tensors(task, 1, binary), outputs=[triton.InferRequestedOutput("logits")])
    with pytest.raises(InferenceServerException, match="must be a BYTES tensor"):
        numbers = triton.InferInput("text", [1], "INT64")
        numbers.set_data_from_numpy(np.array([1]))
        client.infer("tiny", [numbers])
    client.close()


def test_errors_of_the_open_inference_protocol(served: tuple[str, str]) -> None:
    task, url = served
    name = "context" if task[0] == "q" else "text"
    good = {"name": name, "shape": [1], "datatype": "BYTES", "data": ["a"]}
    wrong: list[tuple[Any, str]] = [
        ({"inputs": []}, "inputs: "),
        ({"inputs": [{**good, "shape": [2]}]}, "has 1 elements, its shape is [2]"),
        ({"inputs": [{**good, "shape": [9] * 500_000}]}, "inputs[0].shape: List should have at most 8 items"),
        ({"inputs": [{**good, "data": [1]}]}, "element 0 is not a string"),
        ({"inputs": [{**good, "data": None}]}, "has no data"),
        ({"inputs": [{**good, "shape": [0], "data": []}]}, "has 0 elements"),
        ({"inputs": [{**good, "parameters": {"binary_data_size": 9}}]}, "binary_data_size is 9"),
        ({"inputs": [good, good]}, "two tensors of this name"),
        ({"inputs": [good, {**good, "name": "other"}]}, "this model takes" if task[0] != "q" else "question"),
        ({"inputs": [good], "extra": 1}, "extra: "),
    ]
    for body, said in wrong:
        answer = post(url, "/v2/models/tiny/infer", body)
        assert (answer.status_code, list(answer.json())) == (400, ["error"]), body
        assert said in answer.json()["error"], (said, answer.text)
    headers = {"Inference-Header-Content-Length": "9999"}
    assert post(url, "/v2/models/tiny/infer", {"inputs": [good]}, headers=headers).status_code == 400
    nested = {**good, "shape": [1, 1], "data": [["a"]]}
    assert (post(url, "/v2/models/tiny/infer", {"inputs": [nested]}).status_code == 200) == (task[0] != "q")
    assert httpx.get(f"{url}/v2/models/tiny/versions/2/ready").status_code == 404


def test_the_key_is_asked_for_in_each_protocols_form(tmp_path: Path) -> None:
    folder = make_one_pass_artifact(tmp_path / "model", "sequenceClassification")
    with ServingProcess(folder, "--threads", "1", env={"TUNESMITH_API_KEY": "secret"}) as server:
        assert post(server.url, "/", {"inputs": "a"}).status_code == 401
        assert isinstance(post(server.url, "/", {"inputs": "a"}).json()["error"], str)
        assert post(server.url, "/predict", {"inputs": "a"}).json()["error_type"] == "Validation"
        assert isinstance(httpx.get(f"{server.url}/v2/health/ready").json()["error"], str)
        assert httpx.get(f"{server.url}/v1/models").json()["error"]["code"] == "invalid_api_key"
        assert InferenceClient(model=server.url, token="secret").text_classification("a")
