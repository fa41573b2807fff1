"""What the probes and the API say while the server warms up, and after its engine has died."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest

from support.serving_process import wait_until
from tunesmith_serving.engines.text_generation.batching.types import Event, GenerationRequest
from tunesmith_serving.engines.text_generation.engine import TextGenerationEngine
from tunesmith_serving.http.app import create_app
from tunesmith_serving.http.state import ServerState

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


def ask(app: object, *calls: tuple[str, str]) -> list[httpx.Response]:
    """Requests to an application in this process."""

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [
                await client.request(method, path, json=CHAT if method == "POST" else None) for method, path in calls
            ]

    return asyncio.run(run())


def app_of(loaded: TextGenerationEngine, state: ServerState, template: bool = True) -> object:
    return create_app(loaded if template else replace(loaded, template=None), state, model_name="tiny")


def test_readiness_follows_the_warm_up(load: Callable[..., TextGenerationEngine]) -> None:
    loaded, state = load(), ServerState()
    app = app_of(loaded, state)
    health, ready = ask(app, ("GET", "/healthz"), ("GET", "/readyz"))
    assert (health.status_code, ready.status_code) == (200, 503)
    assert ready.json()["status"] == "warming up"
    loaded.warm_up(60)
    state.ready = True
    assert ask(app, ("GET", "/readyz"))[0].status_code == 200
    assert loaded.batcher.stats().generated_tokens == 2
    state.draining = True
    ready, chat = ask(app, ("GET", "/readyz"), ("POST", "/v1/chat/completions"))
    assert (ready.status_code, chat.status_code) == (503, 503)
    assert chat.json()["error"]["code"] == "unavailable"


def test_a_dead_engine_is_unhealthy(load: Callable[..., TextGenerationEngine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    loaded, state = load(), ServerState(ready=True)
    app = app_of(loaded, state)

    def broken(_: Event) -> None:
        raise RuntimeError("sink broke")

    loaded.batcher.submit(GenerationRequest((5, 6, 7)), broken)
    wait_until(lambda: not loaded.batcher.healthy)
    health, ready, chat = ask(app, ("GET", "/healthz"), ("GET", "/readyz"), ("POST", "/v1/chat/completions"))
    assert (health.status_code, ready.status_code, chat.status_code) == (503, 503, 500)
    assert chat.json()["error"]["type"] == "server_error"


def test_a_model_without_chat_template(load: Callable[..., TextGenerationEngine]) -> None:
    (answer,) = ask(app_of(load(), ServerState(), template=False), ("POST", "/v1/chat/completions"))
    assert answer.status_code == 400
    assert "/v1/completions" in answer.json()["error"]["message"]
