"""Tiny LoRA bases and adapters, made on the fly: what publish writes with export.adapterOnly, with random weights."""

import hashlib
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from support.tiny_models import Architecture, build_model, write_manifest

TASK = "textGeneration"


def make_base(
    folder: Path | str,
    architecture: Architecture = "llama",
    precisions: tuple[str, ...] = ("fp32",),
    *,
    name: str = "base",
    exporter: Any = None,
    **model_options: Any,
) -> Path:
    """A base artifact at `folder`, with graphs that take adapters; the Hugging Face model is at `folder`.hf.

    `exporter` is one that runs; without it the model is exported in this process.
    """
    from support.exporter_here import ExporterHere
    from tunesmith_api.spec import Precision
    from tunesmith_trainer.export.lora.graph import add_lora_inputs
    from tunesmith_trainer.export.lora.modules import modules_of

    folder = Path(folder)
    model = hf_model(folder)
    if not model.is_dir():
        build_model(model, architecture, **model_options)
    with ExitStack() as stack:
        running = exporter or stack.enter_context(ExporterHere(folder.with_name(f"{folder.name}.log")))
        for precision in precisions:
            exported = folder / "onnx" / precision
            running.export(model, exported, Precision(precision))
            add_lora_inputs(exported, modules_of(model))
    return write_manifest(folder, name, kind="loraBase", task=TASK, chatTemplate=template_digest(model))


def hf_model(base: Path) -> Path:
    """The folder of the Hugging Face model that `make_base` made a base of."""
    return base.with_name(f"{base.name}.hf")


def make_adapter(
    folder: Path | str,
    base: Path,
    *,
    name: str = "adapter",
    rank: int = 4,
    alpha: float = 8,
    use_rslora: bool = False,
    target_modules: list[str] | str = "all-linear",
    seed: int = 1,
) -> Path:
    """An adapter artifact at `folder`: a LoRA with random A and B, written by peft, for a base of `make_base`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = Path(folder)
    model = AutoModelForCausalLM.from_pretrained(hf_model(base))
    config = LoraConfig(
        r=rank, lora_alpha=alpha, use_rslora=use_rslora, target_modules=target_modules, task_type="CAUSAL_LM"
    )
    peft_model = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    for parameter_name, weight in peft_model.named_parameters():
        if ".lora_" in parameter_name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.1
    peft_model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    manifest = json.loads((base / "manifest.json").read_bytes())
    return write_manifest(
        folder,
        name,
        kind="adapter",
        task=TASK,
        base={"uri": f"../{base.name}", "digest": manifest["digest"], "precisions": manifest["precisions"]},
        chatTemplate=manifest["chatTemplate"],
    )


def peft_logits(base: Path, adapter: Path | None, ids: list[int]) -> Any:
    """Logits of torch, float32 [tokens, vocabulary], of a base of `make_base` with an adapter or alone."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(hf_model(base))
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter / "adapter")
    with torch.inference_mode():
        return model.eval()(torch.tensor([ids])).logits[0].numpy()


def template_digest(model: Path) -> str | None:
    """The digest of a model's chat template."""
    path = model / "chat_template.jinja"
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" if path.is_file() else None
