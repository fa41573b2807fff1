"""Asks servers which adapters they have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import aiohttp
from pydantic_core import from_json

from tunesmith_api.contract import ADAPTERS_PATH
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.inferenceworkspace.model import Answer

Ask = Callable[[Iterable[KubeObject], int], Awaitable[Mapping[str, Answer]]]
"""Asks some pods, on a port; returns their answers by the pods' names."""

_SECONDS = 2.0
_STATES = {"Loaded", "Pending", "Failed"}


async def ask_servers(pods: Iterable[KubeObject], port: int) -> Mapping[str, Answer]:
    """Return what servers say about their adapters, by the pods' names.

    They are asked at the pods' addresses: by way of the API server it would take the right to reach every pod.

    Args:
        pods: Pods with an address.
        port: The servers' port.
    """
    asked = list(pods)
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        answers = await asyncio.gather(*(_ask(session, pod, port) for pod in asked))
    return {pod["metadata"]["name"]: answer for pod, answer in zip(asked, answers, strict=True)}


async def _ask(session: aiohttp.ClientSession, pod: KubeObject, port: int) -> Answer:
    address = str(pod["status"]["podIP"])
    host = f"[{address}]" if ":" in address else address
    url = f"http://{host}:{port}{ADAPTERS_PATH}"
    try:
        async with session.get(url) as response:
            if response.status == 404:
                return Answer(
                    problem=f"the server does not know {ADAPTERS_PATH}; its image is older than the operator, or its "
                    "model was not exported for adapters"
                )
            if response.status != 200:
                return Answer(problem=f"GET {url} answers {response.status}")
            return parse_answer(from_json(await response.read()))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        why = str(error) or type(error).__name__
        return Answer(
            problem=f"GET {url} fails ({why}); let the operator's pods reach port {port} of the servers, "
            "for example by a NetworkPolicy"
        )


def parse_answer(content: Any) -> Answer:  # noqa: ANN401 - any JSON value
    """Return a server's answer.

    Raises:
        ValueError: It is not one.
    """
    if not isinstance(content, dict) or not isinstance(content.get("adapters"), list):
        raise ValueError("the answer has no list of adapters")
    states = {}
    for item in content["adapters"]:
        if not isinstance(item, dict) or item.get("state") not in _STATES:
            raise ValueError("an adapter in the answer has no state")
        states[str(item.get("name"))] = (str(item["state"]), str(item.get("message") or ""))
    version = content.get("version")
    return Answer(None if version is None else str(version), states)
