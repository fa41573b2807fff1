"""Others that train the same rows: each a function that returns useful tokens a second of the measured steps."""

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from support.gpu_bench import RANK, WARM_UP, Shape

GPU = torch.cuda.is_available()


def load(base: Path, method: str, **options: Any) -> Any:
    """Return the model as each of them trains it: whole weights in fp32, or bf16 ones with an adapter in fp32."""
    half = GPU and method == "lora"
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16 if half else torch.float32, **options)


def adapter_of(method: str) -> Any:
    """Return the adapter's settings, as tunesmith's defaults; None for full training."""
    from peft import LoraConfig

    return None if method == "full" else LoraConfig(r=RANK, lora_alpha=32, target_modules="all-linear")


def with_adapter(model: Any, method: str) -> Any:
    """Return the model ready to be trained."""
    from peft import get_peft_model

    settings = adapter_of(method)
    return model if settings is None else get_peft_model(model, settings)


def padded(texts: list[list[int]]) -> dict[str, torch.Tensor]:
    """Return a batch padded to its longest row."""
    ids = torch.zeros((len(texts), max(map(len, texts))), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, text in enumerate(texts):
        ids[index, : len(text)] = torch.tensor(text)
        mask[index, : len(text)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


class Clock(TrainerCallback):
    """Notes when each step ends."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if GPU:
            torch.cuda.synchronize()
        self.times.append(time.monotonic())

    def speed(self, tokens: list[int]) -> float:
        """Return tokens a second after the warm-up, from the tokens of each step."""
        return sum(tokens[WARM_UP : len(self.times)]) / (self.times[-1] - self.times[WARM_UP - 1])


def common(shape: Shape, work: Path, **options: Any) -> dict[str, Any]:
    """Return the arguments that HF Trainer and TRL share."""
    return {
        "output_dir": str(work / "out"),
        "max_steps": WARM_UP + shape.steps,
        "learning_rate": 1e-4,
        "optim": "adamw_torch_fused",
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not GPU,
        "bf16": GPU,
        **options,
    }


def hugging_face(shape: Shape, method: str, base: Path, work: Path, *, by_length: bool) -> float:
    """Train with HF Trainer, padded to the longest row of a batch."""
    seen: list[int] = []

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        seen.append(sum(len(row["input_ids"]) for row in rows))
        return padded([row["input_ids"] for row in rows])

    accumulated = shape.rows // shape.micro
    arguments = TrainingArguments(
        **common(shape, work),
        per_device_train_batch_size=shape.micro,
        gradient_accumulation_steps=accumulated,
        remove_unused_columns=False,
        train_sampling_strategy="group_by_length" if by_length else "random",
    )
    rows = [{"input_ids": text, "length": len(text)} for text in shape.texts()]
    clock = Clock()
    model = with_adapter(load(base, method), method)
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate, callbacks=[clock])
    trainer.train()
    return clock.speed([sum(seen[at : at + accumulated]) for at in range(0, len(seen), accumulated)])


def trl_packed(shape: Shape, method: str, base: Path, work: Path) -> float:
    """Train with TRL's SFTTrainer and its packing: as many packs of the longest row's length as a batch has rows."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from support.tiny_models import train_tokenizer

    flash = importlib.util.find_spec("flash_attn") is not None
    model = load(base, method, attn_implementation="flash_attention_2" if flash else "sdpa")
    texts = shape.texts()
    copies = 4  # of the rows: packs have more of them than batches, and the data must not end
    settings = SFTConfig(
        **common(shape, work, learning_rate=1e-4),
        per_device_train_batch_size=shape.micro,
        gradient_accumulation_steps=1,
        gradient_checkpointing=False,
        packing=True,
        max_length=shape.longest,
        eos_token=None,
    )
    seen: list[int] = []
    clock = Clock()
    trainer = SFTTrainer(
        model=model,
        args=settings,
        train_dataset=Dataset.from_dict({"input_ids": texts * copies}),
        processing_class=train_tokenizer(),
        peft_config=adapter_of(method),
        callbacks=[clock],
    )
    collate = trainer.data_collator

    def watched(rows: list[dict[str, Any]]) -> Any:
        seen.append(sum(len(row["input_ids"]) for row in rows))
        return collate(rows)

    trainer.data_collator = watched
    trainer.train()
    return clock.speed(seen)


def bare_loop(shape: Shape, method: str, base: Path, work: Path) -> float:
    """Train by a loop of one's own, without any trainer: batches of like length, padded."""
    device = "cuda" if GPU else "cpu"
    model = with_adapter(load(base, method), method).to(device).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-4, fused=True)
    clock, tokens = Clock(), []
    for step in _like_lengths(shape):
        tokens.append(sum(len(text) for batch in step for text in batch))
        for batch in step:
            inputs = {name: value.to(device) for name, value in padded(batch).items()}
            with torch.autocast(device, torch.bfloat16, enabled=GPU):
                loss = model(**inputs, use_cache=False).loss / len(step)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock.on_step_end()
    return clock.speed(tokens)


def _like_lengths(shape: Shape) -> Iterator[list[list[list[int]]]]:
    """Yield the batches of each step; the rows of a step are sorted by length."""
    texts = shape.texts()
    for start in range(0, len(texts), shape.rows):
        step = sorted(texts[start : start + shape.rows], key=len)
        yield [step[at : at + shape.micro] for at in range(0, shape.rows, shape.micro)]
