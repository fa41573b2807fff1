"""config.json of models on a hub, read over HTTP in the background."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hub_mirror import HubMirror
from support.model_configs import LLAMA_8B, QWEN_05B, write_configs
from tunesmith_api.planner import ModelShape
from tunesmith_operator.models import configs
from tunesmith_operator.models.configs import Lookup, ModelConfigs

pytestmark = pytest.mark.integration

LLAMA = "hf://meta/llama"


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[HubMirror]:
    """A hub with two models: their configurations, and nothing else."""
    write_configs(tmp_path, {"meta/llama": LLAMA_8B, "qwen/half": QWEN_05B})
    with HubMirror(tmp_path).serving() as hub:
        yield hub


class Clock:
    """A time that tests move."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def until_read(reader: ModelConfigs, uri: str, revision: str | None = None) -> Lookup:
    """Look as the reconciler does, until there is an answer."""
    async with asyncio.timeout(300):
        while (found := reader.look(uri, revision)).is_reading:
            await asyncio.sleep(0.01)
    return found


def test_a_configuration_is_read_once_without_weights(mirror: HubMirror) -> None:
    async def read() -> None:
        reader = ModelConfigs(mirror.endpoint)
        # The first look waits for nothing, nor do others that come before the answer.
        assert [reader.look(LLAMA, None), reader.look(LLAMA, None)] == [Lookup(is_reading=True)] * 2
        assert await until_read(reader, LLAMA) == Lookup(ModelShape.from_config(LLAMA_8B))
        assert await until_read(reader, LLAMA) == Lookup(ModelShape.from_config(LLAMA_8B))
        assert await until_read(reader, "hf://qwen/half", "v1") == Lookup(ModelShape.from_config(QWEN_05B))

    asyncio.run(read())
    assert mirror.requests == ["GET /meta/llama/resolve/main/config.json", "GET /qwen/half/resolve/v1/config.json"]


def test_a_branch_is_read_again_after_a_while(mirror: HubMirror) -> None:
    async def read() -> None:
        clock = Clock()
        reader = ModelConfigs(mirror.endpoint, clock)
        await until_read(reader, LLAMA)
        (mirror.folder / "meta/llama/config.json").write_text(json.dumps(QWEN_05B))
        clock.now += 3000
        assert (await until_read(reader, LLAMA)).shape == ModelShape.from_config(LLAMA_8B)
        clock.now += 1000
        assert (await until_read(reader, LLAMA)).shape == ModelShape.from_config(QWEN_05B)

    asyncio.run(read())


def break_(mirror: HubMirror, how: str) -> None:
    """Make the hub answer with something that is not a configuration."""
    path = mirror.folder / "meta/llama/config.json"
    if how == "gated":
        mirror.gated = True
    elif how == "down":
        mirror.status = 503
    elif how == "absent":
        path.unlink()
    elif how == "too large":
        path.write_text(json.dumps({**LLAMA_8B, "padding": "x" * (1 << 20)}))
    else:
        path.write_text(how)


@pytest.mark.parametrize(
    "how",
    ["gated", "down", "absent", "too large", "not json", "[1, 2]", '{"model_type": "gpt2"}', '{"model_type": []}',
     json.dumps({**LLAMA_8B, "num_key_value_heads": [1]}), json.dumps({**LLAMA_8B, "head_dim": 1e400})],
)  # fmt: skip
def test_without_a_configuration_nothing_is_known_and_it_is_tried_again_later(mirror: HubMirror, how: str) -> None:
    content = (mirror.folder / "meta/llama/config.json").read_text()

    async def read() -> None:
        clock = Clock()
        reader = ModelConfigs(mirror.endpoint, clock)
        break_(mirror, how)
        assert await until_read(reader, LLAMA) == Lookup()
        mirror.gated, mirror.status = False, None
        (mirror.folder / "meta/llama/config.json").write_text(content)
        asked = len(mirror.requests)
        assert await until_read(reader, LLAMA) == Lookup()
        assert len(mirror.requests) == asked
        # Another model of the same hub is read meanwhile.
        assert (await until_read(reader, "hf://qwen/half")).shape is not None
        clock.now += 61
        assert (await until_read(reader, LLAMA)).shape is not None

    asyncio.run(read())


def test_a_hub_that_does_not_answer_is_asked_for_one_model_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configs, "_SECONDS", 0.2)
    asked = []

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(writer)
        await asyncio.sleep(60)

    async def read() -> None:
        server = await asyncio.start_server(silent, "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        clock = Clock()
        reader = ModelConfigs(f"http://127.0.0.1:{port}", clock)
        assert await until_read(reader, LLAMA) == Lookup()
        assert reader.look("hf://qwen/half", None) == Lookup()
        assert len(asked) == 1
        clock.now += 61
        assert reader.look("hf://qwen/half", None) == Lookup(is_reading=True)
        server.close()

    asyncio.run(read())


@pytest.mark.parametrize("uri", ["s3://bucket/model", "./model", "/models/x", "abfs://a/b", ""])
def test_only_the_hub_is_asked(mirror: HubMirror, uri: str) -> None:
    async def read() -> None:
        assert ModelConfigs(mirror.endpoint).look(uri, None) == Lookup()

    asyncio.run(read())
    assert mirror.requests == []
