"""`python -m tunesmith_trainer.train.distributed.worker --work FOLDER`: one of the processes that torchrun starts."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from pathlib import Path

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.local.processes import die_with_parent
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.runtime.imports import importing
from tunesmith_trainer.stages.runner import load_config
from tunesmith_trainer.storage.files import write_json
from tunesmith_trainer.train.distributed.interrupt import Interrupt
from tunesmith_trainer.train.distributed.peers import is_network, lost, unreachable
from tunesmith_trainer.train.distributed.torchrun import AGENT, RUN_FOLDER, STARTED, report_outcome


def main() -> int:
    """Train as the process that torchrun's variables say, and return the exit code."""
    die_with_parent(int(os.environ[AGENT]))
    parser = argparse.ArgumentParser(prog="tunesmith_trainer.train.distributed.worker", description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--debug", action="store_true")
    options = parser.parse_args()
    rank, folder = os.environ["RANK"], Path(os.environ[RUN_FOLDER])
    level = logging.DEBUG if options.debug else logging.INFO if rank == "0" else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    (folder / f"{STARTED}{rank}").touch()
    interrupt = Interrupt()
    interrupt.watch(folder)
    try:
        _fit(WorkFolder(options.work), interrupt, rank, folder)
    except StageError as error:
        failure = error
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        failure = _understood(error, rank, stepped=interrupt.stepped)
    else:
        return 0
    report_outcome(folder, rank, failure)
    return failure.exit_code


def _understood(error: Exception, rank: str, *, stepped: bool) -> StageError:
    """Return what an unforeseen error means: on several machines most often that one of them is gone."""
    what = f"train, process {rank}: {type(error).__name__}: {error}"
    if int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1 and is_network(error):
        return lost(what) if stepped else unreachable(what)
    return StageError(Reason.INTERNAL_ERROR, what, "Run the stage again with --debug to see where")


def _fit(work: WorkFolder, interrupt: Interrupt, rank: str, folder: Path) -> None:
    """Train, and leave the result where the launcher finds it."""
    with importing():
        from tunesmith_trainer.train.failures import explained
        from tunesmith_trainer.train.fit import fit

    config = load_config(work)
    with explained(config):
        result = fit(config, work, interrupt)
    if rank == "0":
        write_json(folder / "result.json", result)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stderr.flush()
    # Not sys.exit: a process group whose other members are gone can hang in its destructor.
    os._exit(code)
