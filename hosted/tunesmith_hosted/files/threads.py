"""Runs what blocks in threads of its own, so that slow stores hold up nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tunesmith_hosted.files.store import ContentGoneError, StoreError
from tunesmith_hosted.http.errors import ApiError

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_THREADS = ThreadPoolExecutor(16, "files")


async def in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function in a thread, and return its result.

    Raises:
        ApiError: The store does not do it: 503, for which clients try again, or 404 if a content is gone for good.
    """
    try:
        return await asyncio.get_running_loop().run_in_executor(_THREADS, function, *arguments)
    except ContentGoneError as error:
        log.warning("%s: %r", error, error.__cause__)
        raise ApiError(404, str(error), code="file_content_gone") from error
    except StoreError as error:
        log.warning("%s: %r", error, error.__cause__)
        raise ApiError(503, str(error), type="server_error", code="storage_unavailable") from error
