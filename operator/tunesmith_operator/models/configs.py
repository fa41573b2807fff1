"""Reads config.json of models on the Hugging Face hub, in the background: no reconcile waits for the network."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from tunesmith_api.planner import ModelShape
from tunesmith_api.planner.hub import HUB_SCHEME, hub_file_url
from tunesmith_operator import __name__ as _package

_log = logging.getLogger(__name__)

_MODEL_FILE = "config.json"
_MOST_BYTES = 1 << 20
_SECONDS = 10.0
_CONNECT_SECONDS = 3.0
_AT_ONCE = 8
_KEEP_SECONDS = 3600.0  # a branch may get another model
_RETRY_SECONDS = 60.0  # after a failure
_REMEMBERED = 1024


@dataclass(frozen=True)
class Lookup:
    """What is known of a model.

    Attributes:
        shape: Its sizes; None if they are not known.
        is_reading: Whether its config.json is just being read: look again soon.
    """

    shape: ModelShape | None = None
    is_reading: bool = False


@dataclass(frozen=True)
class _Known:
    shape: ModelShape | None
    until: float


class ModelConfigs:
    """Reads each config.json once and remembers it for an hour; a failure is remembered for a minute.

    Args:
        endpoint: URL of the hub or of a mirror of it; the hub's own if empty.
        clock: Returns the seconds since some moment.
    """

    def __init__(self, endpoint: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._unreachable_until = 0.0

    def look(self, uri: str, revision: str | None) -> Lookup:
        """Return what is known of a model; if nothing is, its config.json begins to be read.

        Args:
            uri: The model; only `hf://ORGANISATION/NAME` is read.
            revision: Branch, tag or commit; `main` if None.
        """
        if not uri.startswith(HUB_SCHEME):
            return Lookup()
        url = hub_file_url(self._endpoint, uri, revision, _MODEL_FILE)
        if url in self._tasks:
            return Lookup(is_reading=True)
        known, now = self._known.get(url), self._clock()
        if known is not None and now < known.until:
            return Lookup(known.shape)
        if now < self._unreachable_until:
            return Lookup()
        task = self._tasks[url] = asyncio.create_task(self._read(url), name=f"read {url}")
        task.add_done_callback(lambda _: self._tasks.pop(url, None))
        return Lookup(is_reading=True)

    async def _read(self, url: str) -> None:
        """Read one config.json and remember it. Raises nothing: without it there is no plan before `prepare`."""
        shape = None
        try:
            async with self._at_once:
                shape = ModelShape.from_config(json.loads(await _get(url)))
        except (aiohttp.ClientConnectionError, TimeoutError, OSError) as error:
            # Others need not wait for what does not answer.
            self._unreachable_until = self._clock() + _RETRY_SECONDS
            _log.debug("no plan before prepare: %s: %r", url, error)
        except Exception as error:
            # Whatever a hub sends must not stop the job, which prepare will explain.
            _log.debug("no plan before prepare: %s: %r", url, error)
        seconds = _RETRY_SECONDS if shape is None else _KEEP_SECONDS
        self._known[url] = _Known(shape, self._clock() + seconds)
        self._known.move_to_end(url)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


async def _get(url: str) -> bytes:
    """Return the content of a small file.

    Raises:
        aiohttp.ClientError: The server refused it, or cannot be reached.
        ValueError: It is too large.
    """
    limits = aiohttp.ClientTimeout(total=_SECONDS, connect=_CONNECT_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=limits, trust_env=True, headers={"User-Agent": _package}) as session,
        session.get(url, raise_for_status=True) as response,
    ):
        content = b""
        async for chunk in response.content.iter_chunked(1 << 16):
            content += chunk
            if len(content) > _MOST_BYTES:
                raise ValueError(f"larger than {_MOST_BYTES:,} bytes")
        return content
