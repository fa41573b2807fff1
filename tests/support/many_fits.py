"""`torchrun ... many_fits.py FOLDER...`: trains one work folder after the other in the same processes.

Most of a run of a tiny model is the start of its processes, which is shared here.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SECONDS = 900


def fit_all(folders: list[Path], processes: int = 2, **extra: str) -> None:
    """Train each work folder in this number of processes, and write what `fit` returns to `fit.json` in it."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1", __file__]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **extra}
    done = subprocess.run(
        [*command, *map(str, folders)], capture_output=True, text=True, env=env, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-20000:]


def main(folders: list[str]) -> None:
    from tunesmith_trainer.runtime.model_libraries import importing_models

    with importing_models():
        import accelerate.utils.other
        import torch
        from accelerate.state import AcceleratorState
        from transformers.integrations.deepspeed import unset_hf_deepspeed_config

        from tunesmith_api.failures import StageError
        from tunesmith_api.work_folder import WorkFolder
        from tunesmith_trainer.runtime.job_config import load_config
        from tunesmith_trainer.train.distributed.interrupt import Interrupt
        from tunesmith_trainer.train.fit import fit

    has_deepspeed = accelerate.utils.other.is_deepspeed_available
    for folder in folders:
        accelerate.utils.other.is_deepspeed_available = has_deepspeed  # which a run by ddp has hidden
        os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)  # which a run by ZeRO has set
        unset_hf_deepspeed_config()
        AcceleratorState._reset_state(reset_partial_state=True)
        work, began = WorkFolder(Path(folder)), time.monotonic()
        interrupt: Any = Interrupt()
        stop = Path(folder) / "stop-after"
        if stop.exists():
            interrupt = _StopAfter(int(stop.read_text()))
        try:
            result = fit(load_config(work), work, interrupt)
        except StageError as error:
            result = {"error": error.message}
        torch.distributed.barrier()
        if os.environ["RANK"] == "0":
            (Path(folder) / "fit.json").write_text(json.dumps(result))
            print(f"{folder}: {time.monotonic() - began:.1f} s, {result.get('error')}", file=sys.stderr, flush=True)


def _StopAfter(steps: int) -> Any:  # noqa: N802 - a class made late, as importing it takes seconds
    from tunesmith_trainer.train.distributed.interrupt import Interrupt

    class StopAfter(Interrupt):
        """Asks for an interrupt when training has done so many steps."""

        def __init__(self) -> None:
            super().__init__()
            self._left = steps

        def note_step(self) -> None:
            super().note_step()
            self._left -= 1
            self.requested = self.requested or self._left == 1  # it takes effect after the next step

    return StopAfter()


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(0)
