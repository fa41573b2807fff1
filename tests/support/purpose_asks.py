"""Asks a served model about rows over HTTP, in the way of its purpose, and says what it answered."""

import json
from collections.abc import Callable
from typing import Any

import httpx

Row = dict[str, Any]
Answer = tuple[str, str, bool]
"""What was asked, what was answered, and whether that is what the row has; for a text, whether there is one."""


def _post(url: str, path: str, body: Row) -> Any:
    reply = httpx.post(f"{url}{path}", json=body, timeout=300)
    if reply.status_code != 200:
        raise ValueError(f"{path} answered {reply.status_code}: {reply.text[:300]}")
    return reply.json()


def _continuation(url: str, row: Row) -> Answer:
    prompt = " ".join(row["text"].split()[:6])
    body = {"model": "purpose", "prompt": prompt, "max_tokens": 12, "temperature": 0}
    text = _post(url, "/v1/completions", body)["choices"][0]["text"]
    return prompt, text, bool(text.strip())


def _chat(url: str, messages: list[Row], expected: str) -> Answer:
    body = {"model": "purpose", "messages": messages, "max_tokens": 48, "temperature": 0}
    text = _post(url, "/v1/chat/completions", body)["choices"][0]["message"]["content"] or ""
    return messages[-1]["content"], text, text.strip() == expected if expected else bool(text.strip())


def _classification(url: str, row: Row) -> Answer:
    labels = _post(url, "/", {"inputs": row["text"]})[0]
    best = max(labels, key=lambda entry: entry["score"])["label"]
    return row["text"], best, best == row["label"]


def _entities(url: str, row: Row) -> Answer:
    text = " ".join(row["tokens"])
    parameters = {"aggregation_strategy": "first"}  # whole words
    found = _post(url, "/", {"inputs": text, "parameters": parameters})
    said = [(entry["entity_group"], text[entry["start"] : entry["end"]]) for entry in found]
    return text, json.dumps(said), said == _expected_entities(row)


def _expected_entities(row: Row) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for word, tag in zip(row["tokens"], row["tags"], strict=True):
        if tag.startswith("B-"):
            found.append((tag[2:], word))
        elif tag.startswith("I-"):
            found[-1] = (found[-1][0], f"{found[-1][1]} {word}")
    return found


def _question(url: str, row: Row) -> Answer:
    inputs = {"question": row["question"], "context": row["context"]}
    parameters = {"handle_impossible_answer": True}
    answer = _post(url, "/", {"inputs": inputs, "parameters": parameters})["answer"]
    return row["question"], answer, answer == (row["answers"]["text"] or [""])[0]


def _translation(url: str, row: Row) -> Answer:
    source, target = row["translation"]["de"], row["translation"]["en"]
    text = _post(url, "/", {"inputs": source})[0]["translation_text"]
    return source, text, text == target


ASK: dict[str, Callable[[str, Row], Answer]] = {
    "domain-text": _continuation,
    "chat": lambda url, row: _chat(url, row["messages"][:-1], ""),
    "creative": lambda url, row: _chat(url, [{"role": "user", "content": row["prompt"]}], ""),
    "preferences": lambda url, row: _chat(url, [{"role": "user", "content": row["prompt"]}], ""),
    "classification": _classification,
    "entities": _entities,
    "translation": _translation,
    "question-answering": _question,
}
"""By the name of the example that the row is of."""
