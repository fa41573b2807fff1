"""Measures the memory that an export takes, by the size of the model. Its weights are random, and stored in bf16.

.venv/bin/python tests/bench/export_memory.py 0.1 0.5 1 --precisions int4
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

# (hidden size, intermediate size, layers, heads, key-value heads, vocabulary) of Llamas by billions of parameters.
SHAPES = {
    "0.1": (768, 2048, 10, 12, 12, 16_000),
    "0.5": (1024, 4096, 24, 16, 16, 32_000),
    "1": (2048, 5632, 18, 32, 8, 32_000),
    "3.8": (3072, 8192, 32, 32, 32, 32_064),
}

IDS = list(range(64))


def write_model(folder: Path, size: str) -> int:
    """Write a random Llama layer by layer and return the bytes of its weights."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, LlamaConfig

    from support.tiny_models import train_tokenizer

    hidden, intermediate, layers, heads, kv_heads, vocabulary = SHAPES[size]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    )
    config.save_pretrained(folder)
    train_tokenizer().save_pretrained(folder)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in AutoModelForCausalLM.from_config(config).state_dict().items()}
    groups: dict[str, list[str]] = {}
    for name in shapes:
        groups.setdefault(".".join(name.split(".")[:3]), []).append(name)
    places, total = {}, 0
    for index, names in enumerate(groups.values()):
        file = f"model-{index:05}.safetensors"
        tensors = {name: (torch.randn(shapes[name]) * 0.02).bfloat16() for name in names}
        total += sum(tensor.nbytes for tensor in tensors.values())
        places |= dict.fromkeys(names, file)
        save_file(tensors, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": places})
    )
    return total


def tree(root: int) -> list[int]:
    """Return a process and its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def memory(pid: int) -> tuple[int, int]:
    """Return the bytes that a process has in memory, and those of them that are not pages of files."""
    try:
        lines = dict(line.split(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "kB" in line)
    except OSError:
        return 0, 0
    total, anonymous = (int(lines.get(name, "0 kB").split()[0]) * 1024 for name in ("VmRSS", "RssAnon"))
    return total, anonymous


def measured(action: Callable[[], Any]) -> tuple[int, int, float]:
    """Run something; return the peak of this process tree in bytes, the same without pages of files, and seconds."""
    peaks, done = [0, 0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            sums = [sum(values) for values in zip(*map(memory, tree(os.getpid())), strict=True)]
            peaks[:] = [max(peak, value) for peak, value in zip(peaks, sums, strict=True)]

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    start = time.monotonic()
    action()
    seconds = time.monotonic() - start
    done.set()
    thread.join()
    return peaks[0], peaks[1], seconds


def main() -> None:
    """Print a row for each size and precision."""
    from tunesmith_api.spec import Precision
    from tunesmith_trainer.data.token_store import TokenStore
    from tunesmith_trainer.export.exporter import Exporter
    from tunesmith_trainer.export.layers import check_layers
    from tunesmith_trainer.export.onnx_runner import OnnxModel

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="+", choices=SHAPES)
    parser.add_argument("--precisions", nargs="+", default=["int4"], choices=[entry.value for entry in Precision])
    parser.add_argument("--folder", help="where temporary files are written")
    parser.add_argument("--run", action="store_true", help="also compute with the export")
    parser.add_argument("--layers", action="store_true", help="also compare the layers with torch")
    arguments = parser.parse_args()
    print("| billions | weights | step | peak | without pages of files | x weights | seconds |")
    print("|---|---|---|---|---|---|---|")

    def row(step: str, action: Callable[[], Any]) -> None:
        peak, anonymous, seconds = measured(action)
        numbers = f"{peak / 1e9:.2f} GB | {anonymous / 1e9:.2f} GB | {peak / weights:.2f} | {seconds:.0f}"
        print(f"| {size} | {weights / 1e9:.2f} GB | {step} | {numbers} |", flush=True)

    for size in arguments.sizes:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
            folder = Path(temporary)
            (folder / "model").mkdir()
            weights = write_model(folder / "model", size)
            store = TokenStore.write(folder / "rows", [(IDS, IDS)])
            for precision in arguments.precisions:
                with Exporter(folder / "export.log") as exporter:
                    export = partial(exporter.export, folder / "model", folder / precision, Precision(precision))
                    row(f"export {precision}", export)
                if arguments.run:
                    row(f"logits {precision}", lambda model=folder / precision: OnnxModel(model).logits(IDS))
                if arguments.layers:
                    check = partial(check_layers, folder / precision, folder / "model", Precision(precision), store)
                    row(f"layers {precision}", check)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
