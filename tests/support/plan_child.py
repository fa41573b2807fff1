"""`python -m support.plan_child`: trains in child processes that it forks, so that the libraries are imported once.

For each line of its input, `{work, ranks: [{VARIABLE: value}], log}`, it writes a line with what each rank took.
"""

import contextlib
import json
import os
import re
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tunesmith_trainer.runtime.model_libraries import importing_models


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


def _status(name: str) -> int:
    """Return a size in this process's status, in bytes."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def _library_pages() -> int:
    """Return the bytes of this process that are pages of files, weights and tokens left out."""
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        fields = line.split()
        if not fields[0].endswith(":"):  # a mapping: addresses, permissions, offset, device, inode, path
            counts = fields[-1].startswith("/") and not fields[-1].endswith((".safetensors", ".npy"))
        elif counts and fields[0] in ("Rss:", "Anonymous:"):
            total += int(fields[1]) * 1024 * (1 if fields[0] == "Rss:" else -1)
    return total


def _train(folder: str, report: Path, libraries: int, *, log: bool) -> None:
    """Train in this process, and write what it took.

    Args:
        folder: The work folder.
        report: Where to write it.
        libraries: Bytes of libraries that the process before the fork had in memory.
        log: Whether to write what was alive at the peak.
    """
    import torch

    from support.allocations import Allocations
    from tunesmith_api.work_folder import WorkFolder
    from tunesmith_trainer.runtime.job_config import load_config
    from tunesmith_trainer.train.distributed.interrupt import Interrupt
    from tunesmith_trainer.train.fit import fit

    started = time.monotonic()
    work = WorkFolder(Path(folder))
    gpu = torch.cuda.is_available()
    allocations = Allocations(keep_log=log)
    with contextlib.nullcontext() if gpu else allocations:
        fit(load_config(work), work, Interrupt())
    taken = {
        "allocated": torch.cuda.max_memory_allocated() if gpu else allocations.peak,
        # A fork has not read in the libraries itself: it has their pages only where it has used them.
        "resident": _status("VmHWM") + max(0, libraries - _library_pages()),
        "seconds": round(time.monotonic() - started, 1),
    }
    report.write_text(json.dumps(taken))
    if log:
        alive, before = allocations.at_peak()
        lines = [f"{size / 1e6:10.3f} {what}" for what, size in alive.most_common(40)]
        report.with_suffix(".log").write_text("\n".join([*lines, "", *before]))


def _fork(folder: str, variables: dict[str, str], report: Path, *, log: bool) -> int:
    libraries = _library_pages()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.environ.update(variables)
        _train(folder, report, libraries, log=log)
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(code)  # the destructor of a process group can hang


def main() -> None:
    """Serve lines until the input ends."""
    # No computation here: its threads would not survive a fork.
    with importing_models():
        import accelerate  # noqa: F401
        import peft  # noqa: F401
        import torch
        import transformers

        import tunesmith_trainer.train.fit  # noqa: F401

    if "--deepspeed" in sys.argv:
        os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
        import deepspeed  # noqa: F401

    transformers.logging.set_verbosity_error()
    for line in sys.stdin:
        request = json.loads(line)
        folder = Path(request["work"])
        reports = [folder / f"report-{rank}.json" for rank in range(len(request["ranks"]))]
        pids = [
            _fork(str(folder), variables, report, log=request["log"])
            for variables, report in zip(request["ranks"], reports, strict=True)
        ]
        failed = [code for code in (os.waitpid(pid, 0)[1] for pid in pids) if code]
        answer = {"error": failed} if failed else {"ranks": [json.loads(report.read_text()) for report in reports]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
