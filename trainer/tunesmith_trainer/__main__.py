"""`python -m tunesmith_trainer prepare|train|publish --work FOLDER`: the three stages as commands."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from tunesmith_trainer.config import Reason, Stage, TrainerError, WorkFolder
from tunesmith_trainer.stages import report_failure


def main(arguments: list[str] | None = None) -> int:
    """Run a stage and return the process exit code (see `EXIT_CODES`)."""
    parser = argparse.ArgumentParser(prog="tunesmith_trainer", description=__doc__)
    parser.add_argument("stage", choices=[stage.value for stage in Stage])
    parser.add_argument("--work", type=Path, required=True, help="the job's work folder, with its config.json")
    parser.add_argument("--nnodes", type=int, default=1, help="machines that train together")
    parser.add_argument("--node-rank", type=int, default=0, help="number of this machine, from 0")
    parser.add_argument("--master-addr", default="127.0.0.1", help="address of machine 0")
    parser.add_argument("--master-port", type=int, default=0, help="port on machine 0; any free one by default")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
    )
    for chatty in ("httpx", "httpcore", "urllib3", "filelock", "fsspec", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # OpenMP threads that spin while they wait make everything crawl where cores are shared. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    stage = Stage(options.stage)
    try:
        _run(stage, options)
    except TrainerError as error:
        if options.debug:
            raise
        print(f"{error.reason.value}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if options.debug:
            raise
        failure = TrainerError(
            Reason.INTERNAL_ERROR,
            f"{stage.value}: {type(error).__name__}: {error}",
            "Run the stage again with --debug to see where",
        )
        report_failure(WorkFolder(options.work), stage, failure)
        print(f"{failure.reason.value}: {failure}", file=sys.stderr)
        return failure.exit_code
    return 0


def _run(stage: Stage, options: argparse.Namespace) -> None:
    """Import and run one stage; each imports only what it needs."""
    from tunesmith_trainer.stages import run_stage

    if stage is Stage.PREPARE:
        from tunesmith_trainer.prepare import prepare

        run_stage(stage, prepare, options.work)
    elif stage is Stage.TRAIN:
        from tunesmith_trainer.train.launch import launch

        launch(options)
    else:
        from tunesmith_trainer.publish import publish

        run_stage(stage, publish, options.work)


if __name__ == "__main__":
    sys.exit(main())
