"""Requests to the servers of models, over connections that are kept."""

from __future__ import annotations

import json

import aiohttp

from tunesmith_hosted.http.errors import ApiError

_CONNECT_SECONDS = 5
SILENT_SECONDS = 600
"""A server that sends nothing for so long is given up; an answer that is not streamed comes at once, at its end."""
_KEEP_SECONDS = 60  # servers close idle connections after 75


class NothingSentError(Exception):
    """The server could not be reached, so it may be tried again."""


def connections() -> aiohttp.ClientSession:
    """Return what keeps the connections, without a limit of its own: servers say when they have enough."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_SECONDS),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=SILENT_SECONDS),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def post(session: aiohttp.ClientSession, url: str, body: bytes) -> aiohttp.ClientResponse:
    """Send a request, and return the answer once its head has come.

    Raises:
        NothingSentError: The server was not reached.
        ApiError: It was, and has not answered.
    """
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    try:
        return await session.post(url, data=body, headers=headers, allow_redirects=False)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise NothingSentError from error
    except TimeoutError as error:
        message = f"The model's server has not answered within {SILENT_SECONDS} s; ask for less, or stream"
        raise ApiError(504, message, type="server_error", code="timeout") from error
    except aiohttp.ClientError as error:
        raise server_gone() from error


async def read(answer: aiohttp.ClientResponse) -> bytes:
    """Return the whole body of an answer.

    Raises:
        ApiError: It breaks off.
    """
    try:
        return await answer.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise server_gone() from error


def server_gone() -> ApiError:
    """Return the error for a server that has left before its answer was complete."""
    message = "The model's server has stopped before its answer was complete; send the request again"
    return ApiError(502, message, type="server_error", code="server_gone")


def is_other_model(status: int, body: bytes) -> bool:
    """Return whether an answer says that the server does not serve the model: another's has its address now."""
    if status != 404:
        return False
    try:
        return bool(json.loads(body)["error"]["code"] == "model_not_found")
    except (ValueError, KeyError, TypeError):
        return False
