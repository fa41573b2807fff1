"""When a namespace is looked at again for the authority's certificate."""

from typing import Any, cast

import pytest

from tunesmith_operator.engine.kube.api_errors import ApiError
from tunesmith_operator.engine.kube.client import KubeClient
from tunesmith_operator.progress.namespaces import TRUSTED_SECONDS, TrustingNamespaces

pytestmark = pytest.mark.asyncio


class Server:
    """Keeps ConfigMaps by path."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked = 0
        self.kept: dict[str, dict[str, str]] = {}

    async def request(self, method: str, path: str, *, body: Any = None, **_: Any) -> Any:
        self.asked += 1
        if method == "PATCH":
            self.kept[path] = body["data"]
        elif path not in self.kept:
            raise ApiError(404, "NotFound", "there is none")
        return {"data": self.kept[path]}


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def namespaces(server: Server) -> TrustingNamespaces:
    return TrustingNamespaces(cast(KubeClient, server), lambda: server.now)


async def test_a_namespace_of_the_same_name_gets_it_anew(server: Server, namespaces: TrustingNamespaces) -> None:
    await namespaces.ensure("a", b"one")
    assert [list(data.values()) for data in server.kept.values()] == [["one"]]
    server.kept.clear()
    server.now += TRUSTED_SECONDS
    await namespaces.ensure("a", b"one")
    assert len(server.kept) == 1


async def test_many_jobs_at_once_ask_once(server: Server, namespaces: TrustingNamespaces) -> None:
    await namespaces.ensure("a", b"one")
    asked = server.asked
    server.now += TRUSTED_SECONDS / 2
    await namespaces.ensure("a", b"one")
    assert server.asked == asked
    await namespaces.ensure("b", b"one")
    assert len(server.kept) == 2


async def test_another_authority_is_written_at_once(server: Server, namespaces: TrustingNamespaces) -> None:
    await namespaces.ensure("a", b"one")
    await namespaces.ensure("a", b"two")
    assert [list(data.values()) for data in server.kept.values()] == [["two"]]
