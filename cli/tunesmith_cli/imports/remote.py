"""OpenAI's API, as far as an import asks it. Nothing but the standard library is needed."""

from __future__ import annotations

import email.utils
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tunesmith_cli.imports.errors import ImportFailedError, RemoteError

_TRIES = 8
_LONGEST_PAUSE = 30.0
_LONGEST_WAIT = 300.0
_SECONDS = 300
_CHUNK = 1 << 20
_PAGE = 100


class Remote:
    """A service that speaks OpenAI's API. Only 429 and failures of the server are tried again.

    Args:
        base_url: URL that ends with `/v1`.
        key: The API key.
        sleep: Waits for some seconds.
    """

    def __init__(self, base_url: str, key: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.base_url = base_url.rstrip("/")
        if urllib.parse.urlsplit(self.base_url).scheme not in ("http", "https"):
            raise ImportFailedError(f"--base-url must be an http:// or https:// URL, not {base_url}")
        self._key = key
        self._sleep = sleep

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """Return an object.

        Raises:
            RemoteError: The service refuses the request.
            ImportFailedError: It cannot be reached.
        """
        return self._json(f"{path}?{urllib.parse.urlencode(query)}" if query else path, None)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send an object and return the answer; raises as `get` does."""
        return self._json(path, json.dumps(body).encode())

    def all(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the objects of a list, page by page; raises as `get` does."""
        query: dict[str, str | int] = {"limit": _PAGE}
        while True:
            page = self.get(path, **query)
            yield from page["data"]
            if not page.get("has_more") or not page["data"]:
                return
            query["after"] = page["data"][-1]["id"]

    def download(self, path: str, target: Path, size: int) -> None:
        """Write a content of `size` bytes into a file, of which a small piece is held at a time; raises as `get` does.

        Raises:
            ImportFailedError: It has another size.
        """
        with self._open(path, None) as answer, target.open("wb") as file:
            try:
                while data := answer.read(_CHUNK):
                    file.write(data)
            except (OSError, http.client.HTTPException) as error:
                raise ImportFailedError(f"{path} broke off: {error}; run the command again") from None
        if target.stat().st_size != size:
            raise ImportFailedError(f"{path} has {target.stat().st_size} of {size} bytes; run the command again")

    def _json(self, path: str, body: bytes | None) -> dict[str, Any]:
        with self._open(path, body) as answer:
            try:
                found = json.loads(answer.read())
            except (ValueError, OSError, http.client.HTTPException) as error:
                raise ImportFailedError(f"{self.base_url}{path} gives no JSON: {error}") from None
        if not isinstance(found, dict):
            raise ImportFailedError(f"{self.base_url}{path} gives no JSON object; is --base-url right?")
        return found

    def _open(self, path: str, body: bytes | None) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.base_url + path, body, headers)  # noqa: S310 - http and https only
        for attempt in range(_TRIES):
            try:
                answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_SECONDS)  # noqa: S310
                return answer
            except urllib.error.HTTPError as error:
                with error:
                    failure, is_final = _failure(error)
                    pause = _pause(error.headers.get("Retry-After"), attempt)
                if is_final or attempt == _TRIES - 1 or pause > _LONGEST_WAIT:
                    raise failure from None
                self._sleep(pause)
            except OSError as error:
                reason = getattr(error, "reason", error)
                raise ImportFailedError(f"{self.base_url} cannot be reached: {reason}; run the command again") from None
        raise AssertionError("unreachable")


def _failure(error: urllib.error.HTTPError) -> tuple[RemoteError, bool]:
    """Return what is wrong, and whether another try cannot help."""
    try:
        inside = json.loads(error.read())["error"]
        message, code = str(inside["message"]), inside.get("code")
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        message, code = str(error.reason), None
    is_final = (error.code != 429 and error.code < 500) or code == "insufficient_quota"
    return RemoteError(error.code, f"{error.code}: {message}"), is_final


def _pause(retry_after: str | None, attempt: int) -> float:
    """Return how many seconds to wait: what the service asks for, or more each time."""
    if retry_after is not None:
        try:
            return max(0.0, float(retry_after))
        except ValueError:
            pass
        try:
            return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
        except ValueError:
            pass
    return min(_LONGEST_PAUSE, 2.0**attempt)
