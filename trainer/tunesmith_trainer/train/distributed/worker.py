"""`python -m tunesmith_trainer.train.distributed.worker --work FOLDER`: a process that torchrun starts.

If it is the only one of a run, the launcher starts it without torchrun.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from pathlib import Path

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.local.files import write_json
from tunesmith_api.local.processes import die_with_parent
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.runtime.disk import is_full, job_disk_full
from tunesmith_trainer.runtime.job_config import load_config
from tunesmith_trainer.runtime.model_libraries import importing_models
from tunesmith_trainer.train.distributed.interrupt import Interrupt
from tunesmith_trainer.train.distributed.peers import is_network_error, peer_lost, peer_unreachable
from tunesmith_trainer.train.distributed.run_folder import AGENT_PID, RUN_FOLDER, RunFolder


def main() -> int:
    """Train as the rank that torchrun's variables name, and return the exit code."""
    die_with_parent(int(os.environ[AGENT_PID]))
    parser = argparse.ArgumentParser(prog="tunesmith_trainer.train.distributed.worker", description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--debug", action="store_true")
    options = parser.parse_args()
    rank, folder = os.environ.get("RANK", "0"), RunFolder(Path(os.environ[RUN_FOLDER]))
    level = logging.DEBUG if options.debug else logging.INFO if rank == "0" else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    folder.mark_started(rank)
    interrupt = Interrupt()
    interrupt.watch(folder)
    try:
        _fit(WorkFolder(options.work), interrupt, rank, folder)
    except StageError as error:
        failure = error
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        failure = _unexpected(error, rank, WorkFolder(options.work), stepped=interrupt.stepped)
    else:
        return 0
    folder.write_error(rank, failure)
    return failure.exit_code


def _unexpected(error: Exception, rank: str, work: WorkFolder, *, stepped: bool) -> StageError:
    """Translate an unexpected error. With several nodes, a network error means that another node is gone."""
    if is_full(error, work.root):
        return job_disk_full(work, error)
    what = f"train, process {rank}: {type(error).__name__}: {error}"
    if int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1 and is_network_error(error):
        return peer_lost(what) if stepped else peer_unreachable(what)
    return StageError(Reason.INTERNAL_ERROR, what, "Run the stage again with --debug to see where")


def _fit(work: WorkFolder, interrupt: Interrupt, rank: str, folder: RunFolder) -> None:
    """Train, and write the result for the launcher."""
    with importing_models():
        from tunesmith_trainer.train.failures import translate_oom
        from tunesmith_trainer.train.fit import fit

    config = load_config(work)
    with translate_oom(config, work):
        result = fit(config, work, interrupt)
    if rank == "0":
        write_json(folder.result, result)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stderr.flush()
    # Not sys.exit: the destructor of a process group can hang when its other members are gone.
    os._exit(code)
