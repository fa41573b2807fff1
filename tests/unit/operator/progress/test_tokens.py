"""Whose a token is: what is asked of the API server, and what is remembered."""

import base64
import json
from typing import Any

import pytest

from tunesmith_api.contract import PROGRESS_AUDIENCE
from tunesmith_operator.progress.tokens import Caller, TokenReviewer

pytestmark = pytest.mark.asyncio


def token(audience: Any = PROGRESS_AUDIENCE, end: float = 10_000, salt: str = "") -> str:
    claims = {"aud": [audience] if isinstance(audience, str) else audience, "exp": end, "salt": salt}
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.c2ln"


class Server:
    """Answers every TokenReview in the same way."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = 1000.0
        self.status: dict[str, Any] = {
            "authenticated": True,
            "audiences": [PROGRESS_AUDIENCE],
            "user": {
                "username": "system:serviceaccount:ns:default",
                "extra": {
                    "authentication.kubernetes.io/pod-name": ["p"],
                    "authentication.kubernetes.io/pod-uid": ["u"],
                },
            },
        }

    async def request(self, method: str, path: str, *, body: Any, **_: Any) -> Any:
        assert (method, path) == ("POST", "/apis/authentication.k8s.io/v1/tokenreviews")
        assert body["spec"]["audiences"] == [PROGRESS_AUDIENCE]
        self.asked += 1
        return {"status": self.status}

    def reviewer(self, **options: Any) -> TokenReviewer:
        return TokenReviewer(self, clock=lambda: self.now, **options)  # type: ignore[arg-type]


@pytest.fixture
def server() -> Server:
    return Server()


async def test_a_good_token_is_its_pods_and_is_asked_about_once(server: Server) -> None:
    reviewer = server.reviewer()
    for _ in range(3):
        assert await reviewer.caller(token()) == Caller("ns", "p", "u")
    assert server.asked == 1


async def test_an_answer_is_remembered_no_longer_than_the_token_lives(server: Server) -> None:
    reviewer = server.reviewer(good_seconds=300)
    assert await reviewer.caller(token(end=1010))
    server.now = 1010.0
    assert await reviewer.caller(token(end=1010)) is None
    assert await reviewer.caller(token(end=5000))
    server.now = 1309.0
    assert await reviewer.caller(token(end=5000))
    assert server.asked == 2
    server.now = 1310.0
    assert await reviewer.caller(token(end=5000))
    assert server.asked == 3


async def test_a_refusal_is_remembered_for_a_moment(server: Server) -> None:
    reviewer = server.reviewer(bad_seconds=30)
    server.status = {"authenticated": False}
    for _ in range(3):
        assert await reviewer.caller(token()) is None
    assert server.asked == 1
    server.now += 30
    assert await reviewer.caller(token()) is None
    assert server.asked == 2


@pytest.mark.parametrize(
    "bad",
    [
        "", "x", "a.b", "a.b.c", "e30.bm90IGpzb24.x", "e30.W10.x", token(audience="other"), token(audience=None),
        token(audience=["other"]), token(end=999), "é.é.é", "e30." + "A" * 9000 + ".x",
    ],
)  # fmt: skip
async def test_what_cannot_be_ours_is_not_asked_about(server: Server, bad: str) -> None:
    assert await server.reviewer().caller(bad) is None
    assert server.asked == 0


@pytest.mark.parametrize(
    "change",
    [
        {"authenticated": False},
        {"audiences": []},
        {"audiences": ["https://kubernetes.default.svc"]},
        {"user": {"username": "alice", "extra": {}}},
        {"user": {"username": "system:serviceaccount:ns:default"}},
        {"user": {}},
    ],
)
async def test_what_is_not_a_pods_is_refused(server: Server, change: dict[str, Any]) -> None:
    server.status |= change
    assert await server.reviewer().caller(token()) is None


async def test_the_memory_is_bounded_and_keeps_what_is_used(server: Server) -> None:
    reviewer = server.reviewer(size=2)
    for salt in ("a", "b", "a", "c"):
        await reviewer.caller(token(salt=salt))
    assert server.asked == 3
    await reviewer.caller(token(salt="a"))
    assert server.asked == 3
    await reviewer.caller(token(salt="b"))
    assert server.asked == 4
