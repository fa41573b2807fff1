"""Golden sets: prompts, and what a model that will be gone has answered to them."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_cli.imports.errors import ImportFailedError, RemoteError
from tunesmith_cli.imports.journal import Journal
from tunesmith_cli.imports.prompts import Prompt, key_of
from tunesmith_cli.imports.remote import Remote

_ROW_IS_WRONG = frozenset({400, 413, 422})
_SHOWN = 5


@dataclass(frozen=True)
class GoldenSet:
    """A golden set.

    Attributes:
        path: Its file of rows, as `spec.dataset.sources` takes it.
        model: The model whose answers it has.
        rows: How many rows it has.
        left_out: Prompts that are not in it, with the reason.
        max_tokens: The most tokens of an answer.
    """

    path: Path
    model: str
    rows: int
    left_out: tuple[str, ...]
    max_tokens: int


def record(
    remote: Remote,
    model: str,
    prompts: Sequence[Prompt],
    target: Path,
    *,
    at_once: int,
    max_tokens: int,
    tell: Callable[[int, int], None],
) -> GoldenSet:
    """Ask a model, and write the golden set once all answers are there; what has come before is not asked again.

    Args:
        remote: Where the model is.
        model: Its name.
        prompts: What it is asked.
        target: The file of the set; the answers are kept beside it as they come.
        at_once: Requests at the same time.
        max_tokens: The most tokens of an answer; longer ones are left out, since nobody knows their end.
        tell: Is told how many are answered, and of how many.

    Raises:
        ImportFailedError: The model cannot be asked, or refuses prompts. Nothing that has come is lost.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    requests = [prompt.request(model, max_tokens) for prompt in prompts]
    keys = [key_of(remote.base_url, request) for request in requests]
    with Journal(target.with_suffix(".answers.jsonl")) as journal:
        missing = {
            key: (prompt, request)
            for key, prompt, request in zip(keys, prompts, requests, strict=True)
            if key not in journal.answers
        }
        refused: list[str] = []
        stop = threading.Event()

        def ask(key: str, prompt: Prompt, request: dict[str, Any]) -> None:
            if stop.is_set():
                return
            try:
                journal.add(key, _entry(remote.post("/chat/completions", request)))
            except RemoteError as error:
                if error.status in _ROW_IS_WRONG:
                    refused.append(f"line {prompt.line}: {error}")
                    return
                stop.set()
                raise
            except BaseException:
                stop.set()
                raise
            tell(len(journal.answers.keys() & set(keys)), len(set(keys)))

        pool = ThreadPoolExecutor(at_once)
        try:
            for done in [pool.submit(ask, key, *asked) for key, asked in missing.items()]:
                done.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
        if refused:
            shown = "; ".join(sorted(refused)[:_SHOWN])
            raise ImportFailedError(
                f"{model} refuses {len(refused)} prompts: {shown}; mend or remove them, and run the command again"
            )
        return _write(journal, prompts, keys, target, model, max_tokens)


def _entry(answer: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of an answer: its message, or why it is left out."""
    try:
        choice = answer["choices"][0]
        message = choice["message"]
    except (KeyError, IndexError, TypeError):
        raise ImportFailedError("the service gives no answer of a chat; is --base-url right?") from None
    if choice.get("finish_reason") == "length":
        return {"left_out": "longer than --max-tokens"}
    calls, content = message.get("tool_calls"), message.get("content")
    if not content and not calls:
        return {"left_out": "refused to answer" if message.get("refusal") else "empty answer"}
    return {"message": {"role": "assistant", "content": content, **({"tool_calls": calls} if calls else {})}}


def _write(
    journal: Journal, prompts: Sequence[Prompt], keys: Sequence[str], target: Path, model: str, max_tokens: int
) -> GoldenSet:
    left_out = []
    rows: dict[str, str] = {}
    for key, prompt in zip(keys, prompts, strict=True):
        entry = journal.answers[key]
        if "left_out" in entry:
            left_out.append(f"line {prompt.line}: {entry['left_out']}")
            continue
        row = {"messages": [*prompt.messages, entry["message"]], **({"tools": prompt.tools} if prompt.tools else {})}
        rows[key] = json.dumps(row, ensure_ascii=False) + "\n"
    if not rows:
        raise ImportFailedError(f"no answer of {model} can be kept: {'; '.join(left_out[:_SHOWN])}")
    partial = target.with_suffix(".partial")
    partial.write_text("".join(rows.values()), encoding="utf-8", errors="surrogatepass")
    os.replace(partial, target)
    return GoldenSet(target, model, len(rows), tuple(left_out), max_tokens)
