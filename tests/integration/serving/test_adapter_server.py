"""A server that follows a list of adapters: what it serves, refuses and says, while adapters come and go under load."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from support.lora_artifacts import make_adapter
from support.lora_variants import digest_of, variant
from support.serving_process import ServingProcess, wait_until
from tunesmith_api.contract import REPLAY_MODULE

OPTIONS = ("--precision", "fp32", "--model-name", "base", "--slots", "4", "--threads", "1", "--context-length", "256")


class AdapterList:
    """A list as a mounted ConfigMap has it: a symbolic link to a file in a folder that is replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "adapters.json"
        self._version = 0
        folder.mkdir()
        self.write([])
        self.path.symlink_to(Path("..data") / self.path.name)

    def write(self, entries: list[dict[str, Any]]) -> str:
        self._version += 1
        folder = self.path.parent / f"..v{self._version}"
        folder.mkdir()
        (folder / self.path.name).write_text(json.dumps({"version": str(self._version), "adapters": entries}))
        link = self.path.parent / "..new"
        link.symlink_to(folder.name)
        os.replace(link, self.path.parent / "..data")
        return str(self._version)


class Served:
    """The server, its list, and the adapters that there are."""

    def __init__(self, process: ServingProcess, adapters: AdapterList, base: Path, folder: Path) -> None:
        self.process, self.list, self.base, self.folder = process, adapters, base, folder
        self.first = make_adapter(folder / "first", base, rank=4, seed=1)
        self.client = openai.OpenAI(base_url=f"{process.url}/v1", api_key="none", max_retries=0)

    def states(self, version: str) -> dict[str, dict[str, Any]]:
        """What the server says of each adapter, once it follows a version of the list and nothing is pending."""
        found: dict[str, Any] = {}

        def is_settled() -> bool:
            found.update(httpx.get(f"{self.process.url}/adapters").json())
            return found["version"] == version and all(item["state"] != "Pending" for item in found["adapters"])

        wait_until(is_settled)
        return {item["name"]: item for item in found["adapters"]}

    def serve(self, *folders: Path) -> dict[str, dict[str, Any]]:
        entries = [{"name": item.name, "path": str(item), "digest": digest_of(item)} for item in folders]
        return self.states(self.list.write(entries))

    def answer(self, model: str) -> str:
        answer = self.client.completions.create(model=model, prompt="The learning rate", max_tokens=12, temperature=0)
        assert answer.model == model
        return answer.choices[0].text

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return httpx.post(f"{self.process.url}{path}", json=body)


@pytest.fixture(scope="module")
def served(lora_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("adapters")
    adapters = AdapterList(folder / "list")
    with ServingProcess(
        lora_base, *OPTIONS, "--adapters", str(adapters.path), env={"TUNESMITH_API_KEY": ""}
    ) as process:
        yield Served(process, adapters, lora_base, folder)


def test_every_protocol_knows_adapters(served: Served) -> None:
    before = served.answer("base")
    assert served.serve(served.first)["first"] == {
        "name": "first", "digest": digest_of(served.first), "state": "Loaded", "message": None,
    }  # fmt: skip
    text = served.answer("first")
    assert text != before == served.answer("base")
    base, adapter = httpx.get(f"{served.process.url}/v1/models").json()["data"]
    assert (base["id"], base["root"], base["parent"], base["max_model_len"]) == ("base", "base", None, 256)
    assert (adapter["id"], adapter["root"], adapter["parent"]) == ("first", str(served.first), "base")
    assert served.client.models.retrieve("first").id == "first"
    chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "temperature": 0}
    answers = {m: served.client.chat.completions.create(model=m, **chat) for m in ("base", "first")}  # type: ignore[call-overload]
    assert {m: a.model for m, a in answers.items()} == {"base": "base", "first": "first"}
    assert len({a.choices[0].message.content for a in answers.values()}) == 2
    assert served.post("/tokenize", {"model": "first", "prompt": "a"}).json()["count"] == 1
    # Hugging Face's task API and KServe's protocol.
    parameters = {"max_new_tokens": 12}
    named = served.post("/models/first", {"inputs": "The learning rate", "parameters": parameters})
    assert named.json() == [{"generated_text": text}]
    by_id = served.post("/", {"inputs": "The learning rate", "parameters": {**parameters, "adapter_id": "first"}})
    assert by_id.json() == named.json()
    tensor = {"name": "text_input", "shape": [1], "datatype": "BYTES", "data": ["The learning rate"]}
    inferred = served.post("/v2/models/first/infer", {"inputs": [tensor], "parameters": parameters}).json()
    assert (inferred["model_name"], inferred["outputs"][0]["data"]) == (
        "first",
        [json.dumps([{"generated_text": text}], ensure_ascii=False)],
    )
    assert httpx.get(f"{served.process.url}/v2/models/first").json()["name"] == "first"


def test_the_replay_answers_as_the_server_does(served: Served) -> None:
    served.serve(served.first)
    line = {"request": {"prompt": "The learning rate", "max_tokens": 12, "temperature": 0}, "generate": True}
    command = [sys.executable, "-m", REPLAY_MODULE, "--artifact", str(served.base), "--precision", "fp32"]
    command += ["--threads", "1", "--adapter", str(served.first / "adapter")]
    done = subprocess.run(command, input=json.dumps(line), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"] == served.answer("first")


def test_a_name_that_is_not_served(served: Served) -> None:
    served.serve(served.first)
    body = {"model": "second", "prompt": "a", "max_tokens": 1}
    refused = served.post("/v1/completions", body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert "serves 'base', 'first'" in refused.json()["error"]["message"]
    for path in ("/models/second", "/v2/models/second/infer"):
        assert served.post(path, {"inputs": "a"}).status_code == 404
    unknown = served.post("/", {"inputs": "a", "parameters": {"adapter_id": "second"}})
    assert unknown.status_code == 400 and "adapter_id" in unknown.json()["error"]
    differs = served.post("/models/first", {"inputs": "a", "parameters": {"adapter_id": "second"}})
    assert differs.status_code == 400 and "leave it out" in differs.json()["error"]


def test_adapters_that_cannot_be_served_say_why_and_do_not_stop_the_others(served: Served, tmp_path: Path) -> None:
    first = served.first
    foreign = {"uri": "../other", "digest": "sha256:" + "0" * 64}
    bad = {
        "dora": variant(first, tmp_path / "dora", config={"use_dora": True}),
        "vera": variant(first, tmp_path / "vera", config={"peft_type": "VERA"}),
        "pissa": variant(first, tmp_path / "pissa", config={"init_lora_weights": "pissa"}),
        "head": variant(first, tmp_path / "head", config={"modules_to_save": ["lm_head"]}),
        "rank": variant(first, tmp_path / "rank", config={"r": 5}),
        "foreign": variant(first, tmp_path / "foreign", base=foreign),
        "template": variant(first, tmp_path / "template", chatTemplate="sha256:" + "1" * 64),
        "damaged": variant(first, tmp_path / "damaged"),
    }
    weights = bad["damaged"] / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    wanted = {
        "dora": "DoRA .*adapterOnly: false",
        "vera": "kind VERA",
        "pissa": "changes the base's weights",
        "head": "modules_to_save",
        "rank": r"has the shape \[4, 64\], and the base needs \[5, 64\]",
        "foreign": r"trained on the base \.\./other with digest sha256:0.* serve it on its own base",
        "template": "another chat template",
        "damaged": "is damaged",
        "absent": "does not exist",
        "digest": "is not the artifact that was asked for",
        "model": "not an adapter",
        "base": "name of the base",
        "first": "",
        "copied": "the bucket is not there",
    }
    entries = [{"name": name, "path": str(path)} for name, path in bad.items()]
    entries += [
        {"name": "absent", "path": str(tmp_path / "absent")},
        {"name": "digest", "path": str(first), "digest": "sha256:" + "2" * 64},
        {"name": "model", "path": str(served.base)},
        {"name": "base", "path": str(first)},
        {"name": "first", "path": str(first)},
        {"name": "copied", "error": "the bucket is not there"},
        {"path": "nameless"},
    ]
    states = served.states(served.list.write(entries))
    assert set(states) == set(wanted)
    for name, pattern in wanted.items():
        assert states[name]["state"] == ("Loaded" if name == "first" else "Failed"), states[name]
        assert re.search(pattern, states[name]["message"] or ""), states[name]
    assert {card["id"] for card in httpx.get(f"{served.process.url}/v1/models").json()["data"]} == {"base", "first"}
    metrics = httpx.get(f"{served.process.url}/metrics").text
    assert "tunesmith_adapters_loaded 1.0" in metrics
    assert f"tunesmith_adapter_failures {len(wanted) - 1}.0" in metrics
    assert 'tunesmith_model_requests_total{model="first"}' in metrics


def test_a_list_that_cannot_be_read_changes_nothing(served: Served) -> None:
    served.serve(served.first)
    broken = served.list.path.parent / "..data" / served.list.path.name
    broken.write_text('{"adapters": [')
    wait_until(lambda: "problem" in httpx.get(f"{served.process.url}/adapters").json())
    assert served.answer("first")
    assert set(served.serve()) == set()


def test_twenty_come_and_go_under_load(served: Served) -> None:
    """No request fails, and each adapter answers what it answers by itself."""
    lasting = [variant(served.first, served.folder / f"lasting-{index}", seed=50 + index) for index in range(2)]
    passing = [variant(served.first, served.folder / f"passing-{index}", seed=100 + index) for index in range(20)]
    served.serve(*lasting)
    expected = {model: served.answer(model) for model in ("base", *(folder.name for folder in lasting))}
    assert len(set(expected.values())) == 3
    failures: list[object] = []
    stop, answered = threading.Event(), [0]

    def ask(model: str) -> None:
        while not stop.is_set():
            try:
                if served.answer(model) != expected[model]:
                    failures.append(f"{model} answers otherwise")
            except Exception as error:
                failures.append(error)
            answered[0] += 1

    threads = [threading.Thread(target=ask, args=(model,)) for model in expected]
    for thread in threads:
        thread.start()
    try:
        texts = []
        for start in range(0, 20, 5):
            group = passing[start : start + 5]
            states = served.serve(*lasting, *group)
            assert {item["state"] for item in states.values()} == {"Loaded"}
            texts += [served.answer(folder.name) for folder in group]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert answered[0] > 20
    assert len(set(texts)) == 20
    # They answer the same when they are back, with nobody else there.
    served.serve(*passing)
    assert [served.answer(folder.name) for folder in passing] == texts
