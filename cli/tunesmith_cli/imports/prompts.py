"""The prompts that an old model is asked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_cli.imports.errors import ImportFailedError
from tunesmith_cli.imports.rows import read_rows


@dataclass(frozen=True)
class Prompt:
    """What is asked.

    Attributes:
        line: Its line in the file.
        messages: The conversation, without the answer.
        tools: The tools that may be called.
    """

    line: int
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]

    def request(self, model: str, max_tokens: int) -> dict[str, Any]:
        """Return the body of the request to a model."""
        tools = {"tools": self.tools} if self.tools else {}
        return {"model": model, "messages": self.messages, **tools, "temperature": 0, "max_tokens": max_tokens}


def read_prompts(path: Path) -> list[Prompt]:
    """Return the prompts of a file of `{"messages": [...]}` or `{"prompt": "..."}`; an answer at the end is left out.

    Raises:
        ImportFailedError: A line is none.
    """
    prompts = []
    for line, row in read_rows(path):
        messages = row.get("messages") if isinstance(row, dict) else None
        if messages is None and isinstance(row, dict) and isinstance(row.get("prompt"), str):
            messages = [{"role": "user", "content": row["prompt"]}]
        if not isinstance(messages, list) or not all(isinstance(item, dict) for item in messages):
            raise ImportFailedError(f'{path}, line {line}: write {{"messages": [...]}} or {{"prompt": "..."}}')
        while messages and messages[-1].get("role") == "assistant":
            messages = messages[:-1]
        if not messages:
            raise ImportFailedError(f"{path}, line {line}: there is no message to answer")
        plain = [{key: value for key, value in item.items() if key != "weight"} for item in messages]
        prompts.append(Prompt(line, plain, row.get("tools") or []))
    if not prompts:
        raise ImportFailedError(f"{path}: there are no prompts in it")
    return prompts


def key_of(base_url: str, request: dict[str, Any]) -> str:
    """Return what tells a request from all others."""
    return hashlib.sha256(json.dumps([base_url, request], sort_keys=True).encode()).hexdigest()
