"""Requests for answers, by OpenAI's own client, with a real server of a tiny model behind the service."""

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion
from sqlalchemy import select, update

from support.fake_backend import FakeBackend
from support.hosted import BASE, Hosted, reconciling, serving
from support.hosted_models import add_checkpoint, add_model, add_project, project_of
from support.ports import free_port
from support.serving_process import ServingProcess, wait_until
from support.tiny_models import make_artifact
from tunesmith_backend.interface.protocol import ObjectRef
from tunesmith_hosted.database.tables import Outbox, ServedBase, TunedModel, Usage
from tunesmith_hosted.models.names import base_workspace
from tunesmith_hosted.routing import targets

BASES = [{**BASE, "artifact": "models/tiny"}, {"name": "Tuned-Only", "model": {"uri": "x"}}]
CHAT: Any = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "temperature": 0}
WORKSPACE = base_workspace("tiny")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("models") / "tiny")


def start(artifact: Path, name: str, *options: str) -> ServingProcess:
    given = ("--precision", "fp32", "--model-name", name, "--slots", "2", "--max-queue", "2", "--threads", "1")
    return ServingProcess(artifact, *given, *options)


@pytest.fixture(scope="module")
def server(artifact: Path) -> Iterator[ServingProcess]:
    with start(artifact, WORKSPACE) as process:
        yield process


@pytest.fixture(scope="module")
def hosted(server: ServingProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """A service whose base model is awake."""
    backend: Any = None
    with serving(tmp_path_factory.mktemp("hosted"), backend, bases=BASES) as service:
        base = ServedBase(name="tiny", workspace=WORKSPACE, wanted="awake", endpoint=f"{server.url}/v1")

        async def add() -> None:
            async with service.sessions.begin() as session:
                session.add(base)

        service.run(add())
        yield service


@pytest.fixture(scope="module")
def client(hosted: Hosted) -> openai.OpenAI:
    return hosted.client()


@pytest.fixture(scope="module")
def direct(server: ServingProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def set_model(hosted: Hosted, id: str, **columns: object) -> None:
    async def write() -> None:
        async with hosted.sessions.begin() as session:
            await session.execute(update(TunedModel).where(TunedModel.id == id).values(**columns))

    hosted.run(write())


def model_of(hosted: Hosted, id: str) -> TunedModel | None:
    async def read() -> TunedModel | None:
        async with hosted.sessions() as session:
            return await session.get(TunedModel, id)

    found: TunedModel | None = hosted.run(read())
    return found


def usage_of(hosted: Hosted, key: str) -> dict[str, tuple[int, int, int, int]]:
    project_id = project_of(hosted, key)

    async def read() -> dict[str, tuple[int, int, int, int]]:
        async with hosted.sessions() as session:
            rows = (await session.execute(select(Usage).where(Usage.project_id == project_id))).scalars()
            return {row.model: (row.requests, row.input_tokens, row.cached_tokens, row.output_tokens) for row in rows}

    found: dict[str, tuple[int, int, int, int]] = hosted.run(read())
    return found


def metric(server: ServingProcess, name: str) -> float:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    found = [float(line.split()[-1]) for line in lines if re.split(r"[ {]", line)[0] == name]
    assert found, name
    return sum(found)


def running(server: ServingProcess) -> float:
    return metric(server, "tunesmith_slots_in_use")


def test_answers_are_the_servers_own(client: openai.OpenAI, direct: openai.OpenAI) -> None:
    for name in ("tiny", *BASE["aliases"]):
        chat = client.chat.completions.create(model=name, n=2, **CHAT)
        same = direct.chat.completions.create(model=WORKSPACE, n=2, **CHAT)
        assert [choice.message.content for choice in chat.choices] == [c.message.content for c in same.choices]
        assert chat.model == name
        ChatCompletion.model_validate(chat.model_dump(), strict=True)
    text = client.completions.create(model="tiny", prompt=["a", "b"], max_tokens=4, temperature=0, stop=["zzzz"])
    assert [choice.text for choice in text.choices] == [
        choice.text
        for choice in direct.completions.create(model=WORKSPACE, prompt=["a", "b"], max_tokens=4, temperature=0).choices
    ]
    Completion.model_validate(text.model_dump(), strict=True)
    asked: Any = {"input": "hi", "temperature": 0, "max_output_tokens": 8, "metadata": {"model": WORKSPACE}}
    answer = client.responses.create(model="tiny", **asked)
    assert answer.output_text == direct.responses.create(model=WORKSPACE, **asked).output_text
    assert answer.model == "tiny" and answer.metadata == {"model": WORKSPACE}


def test_streams_are_the_servers_own(client: openai.OpenAI, direct: openai.OpenAI) -> None:
    def texts(client: openai.OpenAI, model: str, **options: Any) -> tuple[str, Any]:
        chunks = list(client.chat.completions.create(model=model, stream=True, **CHAT, **options))
        assert {chunk.model for chunk in chunks} == {model}
        deltas = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
        assert len(deltas) > 2  # the server may send several tokens at once, where the machine is busy
        return "".join(filter(None, deltas)), [chunk.usage for chunk in chunks if not chunk.choices]

    plain, usage = texts(client, "tiny")
    assert plain == texts(direct, WORKSPACE)[0] and usage == []
    assert texts(client, "tiny", stream_options={"include_usage": False}) == (plain, [])
    asked, usage = texts(client, "tiny", stream_options={"include_usage": True})
    assert asked == plain and len(usage) == 1 and usage[0].completion_tokens == 8
    text = client.completions.create(model="tiny", prompt="a", max_tokens=4, stream=True)
    assert {chunk.model for chunk in text} == {"tiny"}
    with client.responses.stream(model="tiny", input="hi", max_output_tokens=4) as events:
        seen = list(events)
    assert seen[0].type == "response.created" and seen[-1].type in ("response.completed", "response.incomplete")
    assert {event.response.model for event in (seen[0], seen[-1])} == {"tiny"}  # type: ignore[union-attr]


def test_only_the_name_is_written_anew(hosted: Hosted) -> None:
    """Members in any order and form, a nested `model`, one that is there twice, and spaces."""
    body = (
        '{ "messages" : [{"role":"user","content":"{\\"model\\":\\"x\\"} \\u00e9 😀"}] ,"model":"nobody",\n'
        '"metadata":{"model":"other"}, "max_tokens":1 , "mo\\u0064el" : "ti\\u006ey" }'
    )
    headers = {"Authorization": f"Bearer {hosted.key}"}
    answer = httpx.post(f"{hosted.url}/v1/chat/completions", content=body.encode(), headers=headers)
    assert answer.status_code == 200 and answer.json()["model"] == "tiny"
    for wrong, code in (
        (b"", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'{"model":"tiny"', "invalid_json"),
        (b'{"model":"tiny"} {}', "invalid_json"),
        (b'{"model":"tiny","a":NaN}', "invalid_json"),
        (b'{"model":"\xff"}', "invalid_json"),
        (b'{"a":' + b"[" * 100_000, "invalid_json"),
        (b"{}", "missing_required_parameter"),
        (b'{"model":7}', "model_not_found"),
        (b'{"model":"\\ud800"}', "model_not_found"),
        (b'{"model":"a\\u0000"}', "model_not_found"),
        (b'{"model":"tiny","x":"' + b"x" * (4 << 20) + b'"}', "body_too_large"),
    ):
        answer = httpx.post(f"{hosted.url}/v1/chat/completions", content=wrong, headers=headers)
        assert 400 <= answer.status_code < 500 and answer.json()["error"]["code"] == code, wrong[:50]
    assert httpx.post(f"{hosted.url}/v1/completions", json={"model": "tiny"}).status_code == 401


def test_errors_are_passed_on(client: openai.OpenAI, direct: openai.OpenAI) -> None:
    for wrong in ({"temperature": -1}, {"nonsense": 1}, {"stream_options": 7, "stream": True}):
        found = []
        for asked, model in ((client, "tiny"), (direct, WORKSPACE)):
            with pytest.raises(openai.BadRequestError) as refused:
                asked.chat.completions.create(model=model, **{"messages": CHAT["messages"]}, extra_body=wrong)
            found.append((refused.value.body, refused.value.response.headers["content-type"]))
        assert found[0] == found[1]


def test_a_full_server_says_when_to_come_back(client: openai.OpenAI) -> None:
    def ask(_: int) -> openai.RateLimitError | None:
        try:
            client.completions.create(model="tiny", prompt="a", max_tokens=300, n=2, temperature=1)
        except openai.RateLimitError as error:
            return error
        return None

    with ThreadPoolExecutor(8) as threads:
        errors = [error for error in threads.map(ask, range(16)) if error is not None]
    assert errors
    assert all(int(error.response.headers["retry-after"]) > 0 and error.code == "queue_full" for error in errors)


def test_models_of_others_are_not_found(hosted: Hosted, server: ServingProcess) -> None:
    """Two projects have a model of the same suffix; each asks its own, and the other's is as unknown as nobody's."""
    url = f"{server.url}/v1"
    mine = add_model(hosted, hosted.key, "same", id="mine1234", endpoint=url, workspace=WORKSPACE)
    theirs = add_model(hosted, hosted.other_key, "same", id="them1234", endpoint=url, workspace=WORKSPACE)
    client, other = hosted.client(), hosted.client(hosted.other_key)
    assert client.chat.completions.create(model=mine, **CHAT).model == mine
    assert other.chat.completions.create(model=theirs, **CHAT).model == theirs
    messages = set()
    for asked, name in ((client, theirs), (other, mine), (client, "ft:tiny:acme:same:nobody12"), (client, "gpt-9")):
        with pytest.raises(openai.NotFoundError) as refused:
            asked.chat.completions.create(model=name, **CHAT)
        assert refused.value.code == "model_not_found"
        messages.add(refused.value.message.replace(name, "NAME"))
    assert len(messages) == 1  # what is another's looks like what is nobody's
    with pytest.raises(openai.NotFoundError, match="fine-tuned but not asked"):
        client.chat.completions.create(model="Tuned-Only", **CHAT)


def test_an_address_that_another_model_has_gives_no_answer(hosted: Hosted, server: ServingProcess) -> None:
    stale = add_model(hosted, hosted.key, "stale", id="stale123", endpoint=f"{server.url}/v1", workspace="ft-other")
    with pytest.raises(openai.InternalServerError) as refused:
        hosted.client().chat.completions.create(model=stale, **CHAT)
    assert refused.value.status_code == 503 and refused.value.code == "model_not_ready"


def test_a_model_that_sleeps_is_woken(hosted: Hosted, server: ServingProcess) -> None:
    name = add_model(hosted, hosted.key, "sleepy", id="sleep123", workspace=WORKSPACE)
    client = hosted.client()
    with ThreadPoolExecutor(3) as threads:
        asks = [threads.submit(client.chat.completions.create, model=name, **CHAT) for _ in range(3)]
        wait_until(lambda: (row := model_of(hosted, name)) is not None and row.wanted == "awake")
        assert not any(ask.done() for ask in asks)

        async def asked() -> set[str]:
            async with hosted.sessions() as session:
                return set((await session.execute(select(Outbox.subject).where(Outbox.kind == "model"))).scalars())

        assert name in hosted.run(asked())
        set_model(hosted, name, endpoint=f"{server.url}/v1")
        assert {ask.result(300).model for ask in asks} == {name}
    row = model_of(hosted, name)
    assert row is not None and row.last_used_at is not None and time.time() - row.last_used_at < 60


def test_a_base_and_a_checkpoint_are_served_on_first_use(hosted: Hosted, server: ServingProcess) -> None:
    friend = add_project(hosted, "acme", "friend")
    model = add_model(hosted, hosted.key, "steps", id="steps123")
    checkpoint = add_checkpoint(hosted, model, 3, share_with=project_of(hosted, friend))
    with ThreadPoolExecutor(1) as threads:
        ask = threads.submit(hosted.client(friend).chat.completions.create, model=checkpoint, **CHAT)
        wait_until(lambda: model_of(hosted, checkpoint) is not None)
        row = model_of(hosted, checkpoint)
        assert row is not None
        assert (row.step, row.workspace, row.project_id) == (3, "ft-steps123-ckpt-3", project_of(hosted, hosted.key))
        set_model(hosted, checkpoint, endpoint=f"{server.url}/v1", workspace=WORKSPACE)
        assert ask.result(300).model == checkpoint
    with pytest.raises(openai.NotFoundError):
        hosted.client(friend).chat.completions.create(model=model, **CHAT)


def test_a_base_is_asked_for_by_its_first_request(artifact: Path, server: ServingProcess, tmp_path: Path) -> None:
    backend: Any = None
    with serving(tmp_path, backend, bases=BASES) as hosted, ThreadPoolExecutor(1) as threads:

        async def row() -> ServedBase | None:
            async with hosted.sessions() as session:
                return await session.get(ServedBase, "tiny")

        ask = threads.submit(hosted.client().chat.completions.create, model="tiny", **CHAT)
        wait_until(lambda: hosted.run(row()) is not None)
        assert hosted.run(row()).workspace == WORKSPACE and hosted.run(row()).wanted == "awake"

        async def wake() -> None:
            async with hosted.sessions.begin() as session:
                await session.execute(update(ServedBase).values(endpoint=f"{server.url}/v1"))

        hosted.run(wake())
        assert ask.result(300).model == "tiny"


class TellingBackend(FakeBackend):
    """Tells of an object when the test does."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: asyncio.Queue[ObjectRef] = asyncio.Queue()

    async def announced(self) -> AsyncIterator[ObjectRef]:
        while True:
            yield await self.changes.get()


def test_waking_waits_for_no_poll(server: ServingProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request wakes the reconciler, the backend tells it of the server, and it tells those who wait."""
    monkeypatch.setattr(targets, "_POLL_SECONDS", 600)
    backend: Any = TellingBackend()
    with (
        serving(tmp_path, backend, bases=[{**BASE, "artifact": "/models/tiny"}], reconcile_seconds=600) as hosted,
        reconciling(hosted, backend),
        ThreadPoolExecutor(1) as threads,
    ):
        ask = threads.submit(hosted.client(timeout=300).chat.completions.create, model="tiny", **CHAT)
        wait_until(lambda: bool(backend.objects))
        (ref,) = backend.objects
        backend.endpoints[ref] = f"{server.url}/v1"
        hosted.loop.call_soon_threadsafe(backend.changes.put_nowait, ref)
        assert ask.result(300).model == "tiny"


def test_a_model_stays_awake_while_it_is_waited_for(server: ServingProcess, tmp_path: Path) -> None:
    """Its server takes longer to start than it may be idle."""
    backend: Any = FakeBackend()
    bases = [{**BASE, "artifact": "/models/tiny"}]
    with (
        serving(tmp_path, backend, bases=bases, idle_seconds=4, reconcile_seconds=0.2) as hosted,
        reconciling(hosted, backend),
        ThreadPoolExecutor(1) as threads,
    ):

        async def used_at() -> int | None:
            async with hosted.sessions() as session:
                row = await session.get(ServedBase, "tiny")
                return row and row.last_used_at

        ask = threads.submit(hosted.client(timeout=300).chat.completions.create, model="tiny", **CHAT)
        wait_until(lambda: hosted.run(used_at()) is not None)
        first = hosted.run(used_at())
        wait_until(lambda: (hosted.run(used_at()) or 0) > first)
        (ref,) = backend.objects
        backend.endpoints[ref] = f"{server.url}/v1"
        assert ask.result(300).model == "tiny"


def test_usage_is_counted(hosted: Hosted) -> None:
    key = add_project(hosted, "acme", "usage")
    client = hosted.client(key)
    plain = client.chat.completions.create(model="tiny", **CHAT).usage
    list(client.chat.completions.create(model=BASE["aliases"][0], stream=True, **CHAT))
    answer = client.responses.create(model="tiny", input="hi", max_output_tokens=8, temperature=0).usage
    with client.responses.stream(model="tiny", input="hi", max_output_tokens=8, temperature=0) as events:
        events.until_done()
    assert plain is not None and answer is not None
    wanted = (
        4,
        2 * plain.prompt_tokens + 2 * answer.input_tokens,
        2 * plain.completion_tokens + 2 * answer.output_tokens,
    )
    wait_until(lambda: usage_of(hosted, key).get("tiny", (0,))[0] == 4)
    requests, given, cached, made = usage_of(hosted, key)["tiny"]
    assert (requests, given, made) == wanted and 0 <= cached <= given


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_ends_the_servers_work(hosted: Hosted, server: ServingProcess, stream: bool) -> None:
    wait_until(lambda: running(server) == 0)
    before = metric(server, "tunesmith_generated_tokens_total")
    long = {"prompt": "a", "max_tokens": 400, "n": 2, "temperature": 1, "logit_bias": {"2": -100}}  # 2 ends an answer
    body = json.dumps({"model": "tiny", "stream": stream, **long}).encode()
    address = httpx.URL(hosted.url)
    with socket.create_connection((address.host, address.port or 80)) as connection:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {hosted.key}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: running(server) > 0)
    wait_until(lambda: running(server) == 0)
    assert metric(server, "tunesmith_generated_tokens_total") - before < 800


def test_a_server_that_goes_is_told(artifact: Path, hosted: Hosted) -> None:
    client = hosted.client()
    with start(artifact, "ft-gone") as process:
        url = f"{process.url}/v1"
        name = add_model(hosted, hosted.key, "gone", id="gone1234", endpoint=url, workspace="ft-gone")
        long: Any = {**CHAT, "max_tokens": 400, "n": 2, "temperature": 1.5}
        stream = client.chat.completions.create(model=name, stream=True, **long)
        next(iter(stream))
        events = client.responses.create(model=name, input="hi", stream=True, temperature=1.5)
        next(iter(events))
        process.process.kill()
        for rest in (stream, events):
            with pytest.raises(openai.APIError, match="stopped before its answer was complete"):
                for event in rest:
                    if getattr(event, "type", "") == "error":
                        raise openai.APIError(event.message, httpx.Request("GET", url), body=None)
    with pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(model=name, **CHAT)
    assert refused.value.status_code == 503 and "retry-after" in refused.value.response.headers


def test_a_model_that_has_moved_is_found_again(hosted: Hosted, server: ServingProcess) -> None:
    """Nothing was sent to the old address, so the request goes to the new one."""
    old = f"http://127.0.0.1:{free_port('127.0.0.1')}/v1"
    name = add_model(hosted, hosted.key, "moved", id="moved123", endpoint=old, workspace=WORKSPACE)
    moved = threading.Timer(0.1, set_model, (hosted, name), {"endpoint": f"{server.url}/v1"})
    moved.start()
    try:
        assert hosted.client().chat.completions.create(model=name, **CHAT).model == name
    finally:
        moved.join()


def test_the_document_names_the_routes(hosted: Hosted) -> None:
    paths = httpx.get(f"{hosted.url}/openapi.json").json()["paths"]
    assert {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/models/{model}", "/v1/files"} <= set(paths)
    assert json.dumps(paths["/v1/files"]["post"]).count("purpose")
