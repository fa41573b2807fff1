"""A tiny model that has learned a few sentences, so that its answers repeat what was said, and its artifact."""

from pathlib import Path
from typing import Any

from support.tiny_models import CORPUS, build_model, write_manifest


def train_repeating(folder: Path, steps: int = 120, **sizes: Any) -> Path:
    """Save a model that continues the sentences of the corpus, in any order."""
    import random

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    build_model(folder, initializer_range=0.05, **sizes)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    draw = random.Random(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    sentences = [tokenizer(f"{text}\n").input_ids for text in CORPUS]
    for _ in range(steps):
        rows = []
        for _ in range(8):
            row: list[int] = []
            while len(row) < 96:
                row += draw.choice(sentences)
            rows.append(row[:96])
        ids = torch.tensor(rows)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


def repeating_artifact(folder: Path, precisions: tuple[str, ...] = ("fp32",), **options: Any) -> Path:
    """An artifact of such a model, exported as the publish stage does."""
    from support.exporter_here import ExporterHere
    from tunesmith_api.spec import Precision

    model = train_repeating(folder.with_name(f"{folder.name}.hf"), **options)
    with ExporterHere(folder.with_name(f"{folder.name}.log")) as exporter:
        for precision in precisions:
            exporter.export(model, folder / "onnx" / precision, Precision(precision))
    return write_manifest(folder)
