"""Measures the memory of each process of a ZeRO 3 run: no process may hold the whole model.

`make bench-zero`: a Llama of 200 million parameters in fp32 (800 MB), two processes without a GPU. Peaks are those of
the anonymous memory (RssAnon), above what the process has after importing its libraries; files that are mapped are not
counted, as the system takes their memory back when it needs it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

SOURCES = Path(__file__).parents[1]
SIZES = {
    "vocab_size": 16_384,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 10,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
}


def anonymous() -> int:
    """The anonymous memory of this process, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


class Peaks(threading.Thread):
    """Samples the memory of this process.

    Attributes:
        peaks: The largest value of each phase, in bytes.
        phase: What the process does at the moment.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peaks: dict[str, int] = {}
        self.phase = "loading"

    def run(self) -> None:
        while True:
            self.peaks[self.phase] = max(self.peaks.get(self.phase, 0), anonymous())
            time.sleep(0.002)


def child(folder: Path) -> None:
    """Load the model as training does, make the engine and save the weights, as one process of a run."""
    import torch

    from tunesmith_api.resolve import resolve
    from tunesmith_api.work_folder import WorkFolder
    from tunesmith_trainer.methods.registry import method_of
    from tunesmith_trainer.models.memory import freed_at_once
    from tunesmith_trainer.models.saving import save_model
    from tunesmith_trainer.runtime.job_config import load_config
    from tunesmith_trainer.tasks.registry import task_of
    from tunesmith_trainer.train.arguments import training_arguments
    from tunesmith_trainer.train.compat.deepspeed import whole
    from tunesmith_trainer.train.distributed.zero import join_deepspeed

    config, work = load_config(WorkFolder(folder)), WorkFolder(folder)
    resolved = resolve(config.spec, int(os.environ["WORLD_SIZE"]), 8, has_bf16=False)
    os.environ["DS_ACCELERATOR"] = "cpu"
    arguments = training_arguments(config, work, resolved, evaluate=False)
    join_deepspeed(resolved)
    method, task = method_of(config.spec.method), task_of(config.spec.task)
    before, watch = anonymous(), Peaks()
    watch.start()
    base = folder / "prepare" / "model"
    with freed_at_once():  # as training has it
        model = method.make_trainable(task.load_base(base, "float32"), config.spec, resolved, task.adapter_task_type)
    held = anonymous() - before
    watch.phase = "saving"
    weights = whole(model.state_dict(keep_vars=True).items())
    with freed_at_once():
        if arguments.process_index == 0:
            save_model(model, weights, folder / "saved")
        else:
            for _ in weights:
                pass
    torch.distributed.barrier()
    peaks = {phase: peak - before for phase, peak in watch.peaks.items()}
    (folder / f"peaks-{arguments.process_index}.json").write_text(json.dumps({"held": held, **peaks}))
    os._exit(0)


def measure(folder: Path, sizes: dict[str, int], processes: int = 2) -> tuple[int, list[dict[str, int]]]:
    """Return the model's size in bytes and the memory of each process: held after loading, peaks of both phases."""
    sys.path.insert(0, str(SOURCES))
    from support.training import tiny_llama, training_job

    work = training_job(folder, distributed={"strategy": "zero3", "numProcPerNode": processes})
    shutil.rmtree(work / "prepare" / "model")
    tiny_llama(work / "prepare" / "model", **sizes)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*command, __file__, "--child", str(work)], env=env, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-6000:]
    base, saved = (work / part / "model.safetensors" for part in ("prepare/model", "saved"))
    assert base.read_bytes() == saved.read_bytes(), "the weights are not those of the file"
    return base.stat().st_size, [json.loads((work / f"peaks-{rank}.json").read_text()) for rank in range(processes)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("zero-memory"))
    parser.add_argument("--child", type=Path)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return
    try:
        size, ranks = measure(options.folder, SIZES)
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
    print(f"model: {size / 1e6:,.0f} MB")
    for rank, peaks in enumerate(ranks):
        print(f"process {rank}: " + ", ".join(f"{name} {value / 1e6:,.0f} MB" for name, value in peaks.items()))


if __name__ == "__main__":
    main()
