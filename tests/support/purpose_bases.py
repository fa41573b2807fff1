"""The models that the cells of purposes adapt: small ones that have learned a part of what is in the rows.

The decoder has read answers, the encoder has filled gaps in texts, and the translator knows the words, but no sentence
with a verb at its end. So there is something to adapt, and something left to learn.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.example_rows import make_data, rows_of
from tunesmith_api.spec import ScratchSpec

STEPS = {"decoder": 150, "encoder": 700, "translator": 500}
_BATCH, _RATE, _MASKED = 16, 2e-3, 0.2
# Models this small have nothing to spare.
_NO_DROPOUT = {"encoder": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}}


def make_base(kind: str, folder: Path) -> None:
    """Train a base model and save it in the transformers layout.

    Args:
        kind: `decoder`, `encoder` or `translator`.
        folder: The folder to write.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

    from tunesmith_trainer.models.saving import save_model
    from tunesmith_trainer.models.scratch import build_scratch

    architecture = {"decoder": "llama", "encoder": "bert", "translator": "t5"}[kind]
    sizes: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "vocab_size": 1024}
    spec = ScratchSpec(architecture=architecture, max_position_embeddings=256, **sizes)  # type: ignore[arg-type]
    build_scratch(folder, spec, [*known_texts(kind), *all_texts(kind)], 0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    auto = {"decoder": AutoModelForCausalLM, "encoder": AutoModelForMaskedLM, "translator": AutoModelForSeq2SeqLM}[kind]
    torch.manual_seed(0)
    model = auto.from_pretrained(folder, dtype=torch.float32, **_NO_DROPOUT.get(kind, {})).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE)
    batches = _BATCHES[kind](tokenizer)
    for step in range(STEPS[kind]):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1, (step + 1) / 20) * (1 - 0.9 * step / STEPS[kind])
        loss = model(**next(batches)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    (folder / "model.safetensors").unlink()
    save_model(model, model.state_dict().items(), folder)


def known_texts(kind: str) -> list[str]:
    """Return what a base model reads."""
    if kind == "decoder":
        creative = [row["completion"] for row in rows_of("creative")[0][:150]]
        chosen = [row["chosen"] for row in rows_of("preferences")[0][:150]]
        return [*creative, *chosen]
    if kind == "encoder":
        return list(all_texts(kind))
    return [text for pair in _simple_pairs() for text in pair]


def all_texts(kind: str) -> Iterator[str]:
    """Yield the texts of all rows that a base model's tokenizer must know."""
    examples = {
        "decoder": ("domain-text", "chat", "creative", "preferences", "classification"),
        "encoder": ("classification", "entities", "question-answering"),
        "translator": ("translation",),
    }[kind]
    for example in examples:
        for row in rows_of(example)[0]:
            yield from _texts(row)


def _texts(row: dict[str, Any]) -> Iterator[str]:
    if "tokens" in row:
        yield " ".join(row["tokens"])
    elif "messages" in row:
        yield from (turn["content"] for turn in row["messages"])
    elif "translation" in row:
        yield from row["translation"].values()
    else:
        names = ("text", "question", "context", "prompt", "completion", "chosen", "rejected")
        yield from (row[name] for name in names if name in row)


def _simple_pairs() -> list[tuple[str, str]]:
    """Return sentences whose verb does not stand at the end, with their translations."""
    draw, module = random.Random(1), make_data("translation")
    pairs = dict(module.sentence(draw) for _ in range(3000))
    modal = tuple(f" {english} " for _, english in module.MODALS)
    return [(german, english) for german, english in pairs.items() if not any(m in english for m in modal)]


def _chosen(items: list[Any]) -> Iterator[list[Any]]:
    draw = random.Random(2)
    while True:
        yield draw.sample(items, _BATCH)


def _causal(tokenizer: Any) -> Iterator[dict[str, Any]]:
    texts = known_texts("decoder")
    for chosen in _chosen([text + tokenizer.eos_token for text in texts]):
        found = dict(tokenizer(chosen, padding=True, truncation=True, max_length=96, return_tensors="pt"))
        found.pop("token_type_ids", None)
        yield {**found, "labels": found["input_ids"].masked_fill(found["attention_mask"] == 0, -100)}


def _masked(tokenizer: Any) -> Iterator[dict[str, Any]]:
    import torch

    for chosen in _chosen(known_texts("encoder")):
        found = dict(tokenizer(chosen, padding=True, truncation=True, max_length=96, return_tensors="pt"))
        ids = found["input_ids"]
        hidden = (torch.rand(ids.shape) < _MASKED) & (found["attention_mask"] == 1)
        labels = ids.masked_fill(~hidden, -100)
        yield {**found, "input_ids": ids.masked_fill(hidden, tokenizer.mask_token_id), "labels": labels}


def _translated(tokenizer: Any) -> Iterator[dict[str, Any]]:
    for chosen in _chosen(_simple_pairs()):
        sources, targets = zip(*chosen, strict=True)
        found = dict(tokenizer(list(sources), padding=True, return_tensors="pt"))
        labels = tokenizer(list(targets), padding=True, return_tensors="pt")["input_ids"]
        yield {**found, "labels": labels.masked_fill(labels == tokenizer.pad_token_id, -100)}


_BATCHES = {"decoder": _causal, "encoder": _masked, "translator": _translated}
