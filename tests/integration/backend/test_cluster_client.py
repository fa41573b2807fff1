"""The client of the API server over a connection that fails, on a real HTTP server that answers as it likes."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from tunesmith_backend.cluster.client import ClusterClient, VersionExpiredError
from tunesmith_backend.interface.errors import BackendError, ErrorKind

pytestmark = pytest.mark.asyncio

LONG = "x" * 400_000


async def _cut(request: web.Request) -> web.StreamResponse:
    """Announce more bytes than are sent, after one whole line."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"type": "ADDED", "object": {}}\n')
    assert request.transport is not None
    request.transport.close()
    return response


async def _long(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"first\n" + LONG[:1000].encode())
    await response.write(LONG[1000:].encode() + b"\nlast \xff line")
    return response


async def _gone(request: web.Request) -> web.Response:
    status = {"kind": "Status", "code": 410, "message": "too old resource version"}
    if request.path.endswith("event"):
        return web.Response(text=json.dumps({"type": "ERROR", "object": status}) + "\n")
    return web.json_response(status, status=410)


async def _half(request: web.Request) -> web.Response:
    return web.Response(text='{"type": "ADDED", "obj')


@pytest_asyncio.fixture
async def client() -> AsyncIterator[ClusterClient]:
    app = web.Application()
    for path, handler in {"cut": _cut, "long": _long, "gone": _gone, "gone-event": _gone, "half": _half}.items():
        app.router.add_get(f"/{path}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address = "http://{}:{}".format(*runner.addresses[0])
    found = ClusterClient(ApiClient(Configuration(host=address)))
    yield found
    await found.close()
    await runner.cleanup()


async def test_a_stream_that_is_cut_off_is_an_error_that_can_pass(client):
    found = []
    with pytest.raises(BackendError, match="check the cluster") as caught:
        async for kind, _ in client.changes("/cut", {}):
            found.append(kind)
    assert found == ["ADDED"]
    assert caught.value.kind is ErrorKind.RETRY


async def test_a_response_that_is_cut_off_is_an_error_that_can_pass(client):
    with pytest.raises(BackendError) as caught:
        await client.request("GET", "/cut")
    assert caught.value.kind is ErrorKind.RETRY


async def test_an_event_that_is_cut_off_is_an_error_that_can_pass(client):
    with pytest.raises(BackendError, match="watch again") as caught:
        await anext(client.changes("/half", {}))
    assert caught.value.kind is ErrorKind.RETRY


async def test_lines_may_be_long_and_of_any_bytes(client):
    assert [line async for line in client.lines("/long", {})] == ["first", LONG, "last \ufffd line"]


@pytest.mark.parametrize("path", ["/gone", "/gone-event"])
async def test_a_version_that_is_too_old_is_told_apart(client, path):
    with pytest.raises(VersionExpiredError):
        await anext(client.changes(path, {}))


async def test_a_server_that_is_not_there_is_an_error_that_can_pass():
    nobody = ClusterClient(ApiClient(Configuration(host="http://127.0.0.1:1")))
    with pytest.raises(BackendError, match="check the cluster") as caught:
        await nobody.request("GET", "/x")
    assert caught.value.kind is ErrorKind.RETRY
    await nobody.close()
