"""The validation prompts that `prepare` writes to `evaluation.jsonl`, and the requests that ask them of a server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class EvalPrompt:
    """A prompt made from a validation row, with the expected answer.

    Attributes:
        row: Index of the validation row.
        prompt_ids: Token ids of the prompt, generation prompt included.
        reference: The expected answer.
        location: File and line of the row.
        messages: The turns of the prompt, as a request has them.
        tools: The tools of the prompt.
    """

    row: int
    prompt_ids: list[int]
    reference: str
    location: str = ""
    messages: Sequence[Mapping[str, Any]] = ()
    tools: Sequence[Mapping[str, Any]] = ()

    @property
    def request(self) -> dict[str, Any]:
        """The body of a server's request with this prompt."""
        return _chat(self.messages, self.tools) if self.messages else {"prompt": self.prompt_ids}


@dataclass(frozen=True)
class RowRequest:
    """A request made from a validation row, for comparing its rendering by the server with the row's tokens.

    Attributes:
        row: Index of the validation row.
        location: File and line of the row.
        request: The request's body: `messages` before the last answer, or a text row's `prompt`.
    """

    row: int
    location: str
    request: dict[str, Any]


def read_prompts(path: Path, limit: int) -> list[EvalPrompt]:
    """Return the first prompts with an expected answer; none if there is no file."""
    prompts: list[EvalPrompt] = []
    for value in _lines(path):
        if len(prompts) == limit:
            break
        if "reference" in value:
            asked = value.get("location", ""), value.get("messages", ()), value.get("tools", ())
            prompts.append(EvalPrompt(value["row"], value["prompt_ids"], value["reference"], *asked))
    return prompts


def read_requests(path: Path, limit: int) -> list[RowRequest]:
    """Return the requests of the first rows that have one; none if there is no file."""
    requests: list[RowRequest] = []
    for value in _lines(path):
        if len(requests) == limit:
            break
        if value.get("messages"):
            request = _chat(value["messages"], value.get("tools", ()))
            requests.append(RowRequest(value["row"], value["location"], request))
        elif value.get("text"):
            requests.append(RowRequest(value["row"], value["location"], {"prompt": value["text"]}))
    return requests


def _chat(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"messages": list(messages), **({"tools": list(tools)} if tools else {})}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
