"""A tiny model that has learned a few conversations with tools by heart, as an artifact."""

from pathlib import Path
from typing import Any

from support.tiny_models import build_model, make_artifact
from support.tool_templates import HERMES

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Says the weather in a city.",
        "parameters": {"properties": {"city": {"type": "string"}}, "required": ["city"], "type": "object"},
    },
}
# The same with the fields of its schema in another order, as docs/serving.md has it.
DOCUMENTED: dict[str, Any] = {
    "type": "function",
    "function": {
        **WEATHER["function"],
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
QUESTION = "Is it raining in Berlin?"
RESULT = "sunny, 21 degrees"
ANSWER = "No, it is sunny in Berlin: 21 degrees."
GREETING = "Hello! Ask me about the weather."
TWO = "Compare Berlin and Köln."


def call(city: str, id: str) -> dict[str, Any]:
    arguments = f'{{"city": "{city}"}}'
    return {"id": id, "type": "function", "function": {"name": "weather", "arguments": arguments}}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def says(text: str | None, *calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **({"tool_calls": list(calls)} if calls else {})}


ROWS: list[dict[str, Any]] = [
    {
        "messages": [
            user(QUESTION),
            says(None, call("Berlin", "a")),
            {"role": "tool", "tool_call_id": "a", "content": RESULT},
            says(ANSWER),
        ],
        "tools": [WEATHER],
    },
    {
        "messages": [
            user(QUESTION),
            says(None, call("Berlin", "a")),
            {"role": "tool", "tool_call_id": "a", "content": RESULT},
            says(ANSWER),
        ],
        "tools": [DOCUMENTED],
    },
    {"messages": [user("Hello"), says(GREETING)], "tools": [WEATHER]},
    {"messages": [user(TWO), says("Let me see.", call("Berlin", "a"), call("Köln", "b"))], "tools": [WEATHER]},
]


def make_tool_artifact(folder: Path, rows: list[dict[str, Any]] | None = None, template: str = HERMES) -> Path:
    """An artifact at `folder` whose model answers as the rows do."""
    rows = ROWS if rows is None else rows
    model_folder = folder.with_name(folder.name + ".hf")
    build_model(model_folder, initializer_range=0.05, texts=[str(row) for row in rows] * 8)
    _learn(model_folder, rows, template)
    return make_artifact(folder, model_folder=model_folder)


def _learn(folder: Path, rows: list[dict[str, Any]], template: str) -> None:
    """Train on rows as `prepare` encodes them, until every target is the most likely token."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tunesmith_api.spec import DatasetFormat
    from tunesmith_trainer.data.encode import Encoder
    from tunesmith_trainer.data.formats import RowParser

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    parser = RowParser(DatasetFormat.MESSAGES, None)
    parsed = [parser.parse(f"rows:{number}", row) for number, row in enumerate(rows, 1)]
    encoded = [piece for pieces in Encoder(tokenizer, 512).encode(parsed) for piece in pieces]
    width = max(len(piece.ids) for piece in encoded)
    ids, labels = torch.zeros(len(encoded), width, dtype=torch.long), torch.full((len(encoded), width), -100)
    for number, piece in enumerate(encoded):
        ids[number, : len(piece.ids)] = torch.tensor(piece.ids)
        learned = [token if target else -100 for token, target in zip(piece.ids, piece.mask, strict=True)]
        labels[number, : len(piece.ids)] = torch.tensor(learned)
    model = AutoModelForCausalLM.from_pretrained(folder).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(400):
        out = model(input_ids=ids, labels=labels)  # rows are padded on the right, which no earlier token sees
        if step % 10 == 9:
            wrong = (out.logits[:, :-1].argmax(-1) != labels[:, 1:]) & (labels[:, 1:] != -100)
            if not wrong.any() and out.loss < 0.02:
                break
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    else:
        raise AssertionError(f"the rows are not learned: the loss is {out.loss.item():.3f}")
    model.eval().save_pretrained(folder)
