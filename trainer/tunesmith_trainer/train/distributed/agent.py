"""`python -m tunesmith_trainer.train.distributed.agent ARGUMENTS`: torchrun, which also records exit codes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tunesmith_api.local.files import write_json
from tunesmith_api.local.imports import importing
from tunesmith_trainer.train.distributed.run_folder import AGENT_PID, RUN_FOLDER, RunFolder


def main(arguments: list[str]) -> int:
    """Run torchrun and return 0, or 1 if a worker failed; the exit codes are then in the run folder."""
    with importing():
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.run import parse_args, run

    os.environ[AGENT_PID] = str(os.getpid())
    try:
        run(parse_args(arguments))
    except ChildFailedError as error:
        codes = {str(rank): failure.exitcode for rank, failure in error.failures.items()}
        write_json(RunFolder(Path(os.environ[RUN_FOLDER])).exit_codes, codes)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
