"""Work folders in the state that `prepare` and `train` leave them in: tiny random models and adapters.

What is in them is what the stages themselves write; only the training is left out.
"""

import json
from pathlib import Path
from typing import Any

from support.tiny_models import Architecture, build_model

ROWS = [(f"What is {word}?", f"{word} is thing number {number}.") for number, word in enumerate(
    ["tune", "smith", "rank", "alpha", "epoch", "batch", "loss", "gate", "slot", "token", "shard", "merge"]
)]  # fmt: skip


def write_config(work: Path, *, method: str = "lora", name: str = "tiny", **sections: Any) -> Path:
    """Write config.json; `sections` are evaluation, export and output as they stand in a manifest."""
    if method != "full":
        sections.setdefault("adapter", {"rank": 4, "alpha": 8})
    spec = {
        "model": {"scratch": {"architecture": "llama"}},
        "method": method,
        "dataset": {"sources": [{"uri": "./rows.jsonl"}], "format": "promptCompletion"},
        **sections,
    }
    work.mkdir(parents=True, exist_ok=True)
    (work / "config.json").write_text(json.dumps({"name": name, "spec": spec}))
    return work


def prepared(work: Path, architecture: Architecture = "llama", *, base: Path | None = None) -> Path:
    """Do what prepare does for ROWS on a random model: the model, tokenised rows, questions, the marker."""
    from transformers import AutoTokenizer

    from tunesmith_trainer.data.token_store import TokenStore

    folder = work / "prepare"
    model = base or build_model(folder / "model", architecture)
    tokenizer = AutoTokenizer.from_pretrained(model)
    examples, questions = [], []
    for index, (question, answer) in enumerate(ROWS):
        turns = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        learned = tokenizer.encode(answer + "<|im_end|>", add_special_tokens=False)
        examples.append((prompt + learned, [0] * len(prompt) + [1] * len(learned)))
        location = f"rows.jsonl:{index + 1}"
        questions.append(
            {"row": index, "location": location, "messages": turns, "prompt_ids": prompt, "reference": answer}
        )
    TokenStore.write(folder / "data" / "train", examples)
    TokenStore.write(folder / "data" / "validation", examples)
    (folder / "data" / "evaluation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    marker = {
        "inputs": "prepared",
        "model": {
            "uri": None,
            "revision": None,
            "digest": "sha256:base",
            "path": str(base or "prepare/model"),
            "architecture": json.loads((model / "config.json").read_text())["architectures"][0],
        },
        "data": {"digest": "sha256:data", "format": "promptCompletion", "rows": 12, "trainRows": 12},
    }
    (folder / "stage.json").write_text(json.dumps(marker))
    return work


def trained(work: Path, method: str = "lora", *, seed: int = 1, scale: float = 0.05) -> Path:
    """Do what train does but for the training: random adapter weights (or other full weights), log and marker."""
    import torch
    from peft import LoraConfig, get_peft_model

    from tunesmith_api.methods import METHODS
    from tunesmith_api.work_folder import WorkFolder
    from tunesmith_trainer.models.loading import load_weights
    from tunesmith_trainer.models.location import model_path
    from tunesmith_trainer.models.nf4_loading import load_quantized

    base, info = model_path(WorkFolder(work)), METHODS[method]
    load = load_quantized if info.is_quantized else load_weights
    model = load(base, "float32")
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # peft draws the adapter's matrix A
    if method != "full":
        model = get_peft_model(
            model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", use_dora=info.is_decomposed)
        )
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # DoRA's magnitudes are multiplied, everything else is shifted.
            noise = torch.randn(parameter.shape, generator=generator) * scale
            parameter.data = parameter.data * (1 + noise) if "magnitude" in name else parameter.data + noise
    model.save_pretrained(work / "train" / "final")
    if info.is_quantized:
        quantization = {"digest": model.get_base_model().nf4_digest}
        (work / "train" / "final" / "quantization.json").write_text(json.dumps(quantization))
    (work / "train" / "training_log.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    (work / "train" / "metrics.json").write_text('{"seconds": 1.5}')
    marker = {"inputs": "trained", "steps": 1, "trainedParameters": 1, "totalParameters": 2, "resolved": {"x": 1}}
    (work / "train" / "stage.json").write_text(json.dumps(marker))
    return work


def make_job(
    work: Path, architecture: Architecture = "llama", method: str = "lora", *, base: Path | None = None, **sections: Any
) -> Path:
    """A work folder that is ready to be published. Bounds on int4 are wide: random weights do not survive it well."""
    parity = {"rows": 4, "minNextTokenAgreement": 0.3, "maxPerplexityIncrease": 5}
    sections.setdefault("export", {"precisions": ["fp32", "int4"], "parity": parity})
    write_config(work, method=method, **sections)
    prepared(work, architecture, base=base)
    return trained(work, method)
