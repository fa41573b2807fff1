"""`python -m tunesmith_trainer.train.distributed.agent ARGUMENTS`: torchrun, which leaves its workers' exit codes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tunesmith_trainer.runtime.imports import importing
from tunesmith_trainer.storage.files import write_json


def main(arguments: list[str]) -> int:
    """Run the workers and return 0, or 1 when one failed; their exit codes are then in `failures.json`."""
    with importing():
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.run import parse_args, run

    from tunesmith_trainer.train.distributed.torchrun import AGENT, RUN_FOLDER

    os.environ[AGENT] = str(os.getpid())
    try:
        run(parse_args(arguments))
    except ChildFailedError as error:
        codes = {str(rank): failure.exitcode for rank, failure in error.failures.items()}
        write_json(Path(os.environ[RUN_FOLDER]) / "failures.json", codes)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
