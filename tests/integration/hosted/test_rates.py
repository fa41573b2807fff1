"""Requests and tokens a minute: never more than the limit, over all replicas."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request
from hypothesis import given, settings
from hypothesis import strategies as st

from support.hosted import Hosted, serving
from tunesmith_hosted.config.settings import Quotas
from tunesmith_hosted.database.engine import connect, sessions_of
from tunesmith_hosted.database.migrate import migrate
from tunesmith_hosted.http.errors import ApiError
from tunesmith_hosted.http.strict_json import object_of
from tunesmith_hosted.process import app
from tunesmith_hosted.tenants.projects import create_project
from tunesmith_hosted.tenants.rates.limiter import RateLimiter
from tunesmith_hosted.tenants.rates.middleware import estimate
from tunesmith_hosted.tenants.rates.window import SLOT_SECONDS, add, wait_for

router = APIRouter(prefix="/v1")


@router.post("/embeddings")
async def answer(request: Request) -> dict[str, Any]:
    body = await request.json()
    request.state.admission.settle(body.get("used", 0))
    return body


@pytest.fixture
def hosted(tmp_path: Path) -> Iterator[Hosted]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "ROUTERS", (router, *app.ROUTERS))
        quotas = {"requests_a_minute": 5, "tokens_a_minute": 1000}
        with serving(tmp_path, None, quotas=quotas) as service:
            yield service


def ask(hosted: Hosted, key: str = "", **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key or hosted.key}"}
    return httpx.post(f"{hosted.url}/v1/embeddings", headers=headers, json=body)


def test_limits_are_enforced_and_shown(hosted: Hosted) -> None:
    assert [ask(hosted, max_tokens=10).headers["x-ratelimit-remaining-requests"] for _ in range(5)] == list("43210")
    refused = ask(hosted, max_tokens=10)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert refused.json()["error"]["type"] == "requests"
    assert refused.headers["x-ratelimit-limit-requests"] == "5"
    assert 0 < int(refused.headers["retry-after"]) <= 61 + SLOT_SECONDS
    assert refused.headers["x-ratelimit-reset-requests"].endswith("s")
    assert ask(hosted, hosted.other_key).status_code == 200, "another project has a minute of its own"


def test_tokens_are_taken_before_and_corrected_after(hosted: Hosted) -> None:
    first = ask(hosted, max_tokens=900, used=100)
    assert first.headers["x-ratelimit-limit-tokens"] == "1000"
    assert int(first.headers["x-ratelimit-remaining-tokens"]) <= 100
    second = ask(hosted, max_tokens=800, used=900)
    assert second.status_code == 200, "what the first has not used is free again"
    third = ask(hosted, max_tokens=100)
    assert (third.status_code, third.json()["error"]["type"]) == (429, "tokens")
    never = ask(hosted, hosted.other_key, max_tokens=2000)
    assert never.status_code == 429 and "retry-after" not in never.headers


def test_what_a_request_may_need() -> None:
    assert estimate({"max_tokens": 100, "n": 3}, 27) == 300 + 27 // 4
    assert estimate({"max_completion_tokens": True}, 31) == 256 + 7
    assert object_of(b'{"n": 1}') == {"n": 1}
    wrong = (b"[1]", b"no JSON", b'{"n": NaN}', b'"\xff"', b"[" * 100_000)
    assert [object_of(body) for body in wrong] == [None] * len(wrong) and estimate(None, 7) == 0


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 7)), max_size=60))
@settings(max_examples=200, deadline=None)
def test_no_minute_has_more_than_the_limit(requests: list[tuple[float, int]]) -> None:
    limit, now = 10, 1000.0
    slots: dict[str, int] = {}
    granted: list[tuple[float, int]] = []
    for pause, amount in requests:
        now += pause
        if wait_for(slots, limit, amount, now) == 0:
            slots = add(slots, now, amount)
            granted.append((now, amount))
    for begin, _ in granted:
        assert sum(amount for at, amount in granted if begin <= at < begin + 60) <= limit


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 7)), max_size=30), st.integers(1, 10))
@settings(max_examples=100, deadline=None)
def test_after_the_wait_there_is_room(requests: list[tuple[float, int]], amount: int) -> None:
    now, slots = 1000.0, {}
    for pause, used in requests:
        now += pause
        if wait_for(slots, 10, used, now) == 0:
            slots = add(slots, now, used)
    wait = wait_for(slots, 10, amount, now)
    assert wait is not None and wait_for(slots, 10, amount, now + wait) == 0


def test_replicas_share_a_limit(database_url: str) -> None:
    async def main() -> None:
        engines = [connect(database_url) for _ in range(3)]
        await migrate(engines[0])
        async with sessions_of(engines[0]).begin() as session:
            project = (await create_project(session, "acme", "research", "t-")).id
        limiters = [RateLimiter(sessions_of(engine), lambda: 1000.0) for engine in engines]
        quotas = Quotas(requests_a_minute=100, tokens_a_minute=None)
        results: Counter[str] = Counter()

        async def take(limiter: RateLimiter) -> None:
            try:
                await limiter.take(project, quotas, 1)
                results["granted"] += 1
            except ApiError as error:
                assert error.status == 429
                results["refused"] += 1

        await asyncio.gather(*(take(limiters[n % 3]) for n in range(180)))
        assert results == {"granted": 100, "refused": 80}
        for engine in engines:
            await engine.dispose()

    asyncio.run(main())
