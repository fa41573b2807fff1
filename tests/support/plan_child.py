"""`python -m support.plan_child WORK`: one process that trains, and reports the memory that it took."""

import contextlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any


def save_model(folder: str, config: dict[str, Any], half: bool) -> None:
    """Save a model at random weights."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    rest = {key: value for key, value in config.items() if key != "model_type"}
    settings = AutoConfig.for_model(config["model_type"], **rest, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    settings.max_position_embeddings = 4096
    dtype = torch.bfloat16 if half else torch.float32
    model = AutoModelForCausalLM.from_config(settings, dtype=dtype)
    path = Path(folder)
    path.mkdir(parents=True)
    tied = set(model.all_tied_weights_keys)
    weights = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    settings.architectures = [type(model).__name__]
    settings.dtype = str(dtype).removeprefix("torch.")
    settings.save_pretrained(path)


def main() -> None:
    """Train, and write one line of JSON."""
    started = time.monotonic()
    import torch

    from support.allocations import Allocations
    from tunesmith_api.work_folder import WorkFolder
    from tunesmith_trainer.runtime.job_config import load_config
    from tunesmith_trainer.train.distributed.interrupt import Interrupt
    from tunesmith_trainer.train.fit import fit

    work = WorkFolder(Path(sys.argv[1]))
    gpu = torch.cuda.is_available()
    allocations = Allocations(keep_log="--log" in sys.argv)
    with contextlib.nullcontext() if gpu else allocations:
        fit(load_config(work), work, Interrupt())
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    report = {
        "allocated": torch.cuda.max_memory_allocated() if gpu else allocations.peak,
        "resident": int(peak[1]) * 1024 if peak else 0,
        "seconds": round(time.monotonic() - started, 1),
    }
    if allocations.log:
        alive, before = allocations.at_peak()
        print(*(f"{size / 1e6:10.3f} {what}" for what, size in alive.most_common(40)), sep="\n", file=sys.stderr)
        print(*before, sep="\n", file=sys.stderr)
    print(json.dumps(report), flush=True)
    os._exit(0)  # the destructor of a process group can hang


if __name__ == "__main__":
    main()
