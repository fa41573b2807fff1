"""Calls the methods of OpenAI's client by name, of its synchronous and its asynchronous form alike."""

import asyncio
import inspect
from functools import cached_property
from typing import Any

import openai
from openai._resource import AsyncAPIResource, SyncAPIResource
from openai._streaming import AsyncStream, Stream
from pydantic import BaseModel, ValidationError

RESOURCES = ("chat.completions", "completions", "files", "fine_tuning", "models", "responses", "uploads")
_VIEWS = {"with_raw_response", "with_streaming_response"}
# What OpenAI's own API sends, and its client's types do not list.
_UNTYPED: tuple[tuple[str, object], ...] = (("status", "paused"), ("status", "pausing"), ("finish_reason", None))
_UNTYPED_FIELDS = {"store"}

Client = openai.OpenAI | openai.AsyncOpenAI


def methods_of(client: Client, resources: tuple[str, ...] = RESOURCES) -> set[str]:
    """Return the names of all methods of some resources and of what is in them, such as `files.create`."""
    found: set[str] = set()
    for name in resources:
        _add_methods(_resolve(client, name), name, found)
    return found


def _add_methods(resource: Any, path: str, found: set[str]) -> None:
    for name in dir(type(resource)):
        if name.startswith("_") or name in _VIEWS:
            continue
        member = inspect.getattr_static(type(resource), name)
        if isinstance(member, cached_property | property):
            inner = getattr(resource, name)
            assert isinstance(inner, SyncAPIResource | AsyncAPIResource), f"{path}.{name} is no resource"
            _add_methods(inner, f"{path}.{name}", found)
        else:
            found.add(f"{path}.{name}")


def _resolve(client: Client, path: str) -> Any:
    found: Any = client
    for name in path.split("."):
        found = getattr(found, name)
    return found


class Caller:
    """Calls methods, and returns what they give as a whole: of a list all items, of a stream all events.

    Args:
        client: The client.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._runner = asyncio.Runner() if isinstance(client, openai.AsyncOpenAI) else None

    def __call__(self, method: str, /, *args: Any, **options: Any) -> Any:
        """Call a method by its name."""
        result = _resolve(self.client, method)(*args, **options)
        whole = _whole(result) if self._runner is None else self._runner.run(_awaited(result))
        for item in whole if isinstance(whole, list) else [whole]:
            exact(item)
        return whole

    def close(self) -> None:
        """Close the client's connections."""
        if self._runner is None:
            self.client.close()
        else:
            self._runner.run(_awaited(self.client.close()))
            self._runner.close()


def _whole(result: Any) -> Any:
    if isinstance(result, Stream) or hasattr(result, "iter_pages"):
        return list(result)
    if hasattr(result, "__enter__"):
        with result as events:
            return list(events)
    return result.read() if hasattr(result, "iter_bytes") else result


async def _awaited(result: Any) -> Any:
    if hasattr(result, "__aiter__") and not isinstance(result, AsyncStream):  # a list
        return [item async for item in result]
    if inspect.isawaitable(result):
        result = await result
    if isinstance(result, AsyncStream):
        return [event async for event in result]
    if hasattr(result, "__aenter__") and not hasattr(result, "aiter_bytes"):
        async with result as events:
            return [event async for event in events]
    return await result.aread() if hasattr(result, "aread") else result


def exact(answer: object) -> None:
    """Check that an answer has no field that the client's type lacks, and values of the right types."""
    if not isinstance(answer, BaseModel):
        return
    _check_fields(answer, type(answer).__name__)
    try:
        type(answer).model_validate(answer.model_dump(exclude_unset=True, by_alias=True, warnings=False), strict=True)
    except ValidationError as error:
        wrong = [item for item in error.errors() if not _is_known(item["loc"], item["input"])]
        assert not wrong, wrong


def _check_fields(item: object, place: str) -> None:
    if isinstance(item, list):
        for number, part in enumerate(item):
            _check_fields(part, f"{place}[{number}]")
    elif isinstance(item, BaseModel):
        extra = sorted((item.model_extra or {}).keys() - _UNTYPED_FIELDS)
        assert not extra, f"{place} has fields that the client does not know: {extra}"
        for name, value in item:
            _check_fields(value, f"{place}.{name}")


def _is_known(place: tuple[int | str, ...], value: object) -> bool:
    """Whether the client's type is narrower than what OpenAI sends, or than what the client itself has put there."""
    return "parsed" in place or (place[-1], value) in _UNTYPED
