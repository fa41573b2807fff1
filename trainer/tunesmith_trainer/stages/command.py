"""The three stages as commands."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.runtime.container import (
    Terminated,
    interrupted,
    is_write_failure,
    open_work,
    take_sigterm,
    understood,
)
from tunesmith_trainer.runtime.imports import importing
from tunesmith_trainer.runtime.progress_report import flush
from tunesmith_trainer.runtime.termination_message import tell_failure, tell_result
from tunesmith_trainer.stages.runner import report_failure
from tunesmith_trainer.storage.files import read_json
from tunesmith_trainer.storage.work_store import WorkStore


def main(arguments: list[str] | None = None) -> int:
    """Run a stage and return the process exit code (see `EXIT_CODES`)."""
    parser = argparse.ArgumentParser(prog="python -m tunesmith_trainer", description=__doc__)
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
    # OpenMP threads that spin while they wait make everything crawl where cores are shared; those that sleep at once
    # cost a tenth of the speed. So they spin some tens of microseconds. Both are read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    stage, work = Stage(options.stage), WorkFolder(options.work)
    take_sigterm()
    try:
        tell_result(_run(stage, work, options))
    except StageError as error:
        if options.debug:
            traceback.print_exc()
        return _failed(error)
    except Terminated:
        stopped = interrupted()
        report_failure(work, stage, stopped)
        return _failed(stopped)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        failure = _unforeseen(stage, error)
        if options.node_rank == 0:
            report_failure(work, stage, failure)
        return _failed(failure)
    return 0


def _run(stage: Stage, work: WorkFolder, options: argparse.Namespace) -> dict[str, Any]:
    """Run one stage and return what it leaves for the job's status."""
    from tunesmith_trainer.runtime.stage_lock import stage_lock
    from tunesmith_trainer.storage.work_store import work_store

    open_work(work, writes=options.node_rank == 0)
    if not work.root.is_dir():
        raise StageError(Reason.INVALID_SPEC, f"{work.root}: no such folder", "Give the work folder of a job")
    with stage_lock(work.lock(options.node_rank)):
        store = work_store(work)
        if store is None or store.bring(stage):
            return _stage(stage, work, options)
        if stage is Stage.TRAIN:
            return _train_with(store, options)
        result = _stage(stage, work, options)
        store.keep(stage)
        return result


def _stage(stage: Stage, work: WorkFolder, options: argparse.Namespace) -> dict[str, Any]:
    """Run one stage on what is in the work folder. Each imports only what it needs."""
    from tunesmith_trainer.stages.runner import run_stage

    if stage is Stage.PREPARE:
        with importing():
            from tunesmith_trainer.prepare.pipeline import prepare

        run_stage(stage, prepare, work.root)
        return {}
    if stage is Stage.TRAIN:
        from tunesmith_trainer.train.distributed.launch import launch

        marker = launch(options)
        if not marker:
            return {}
        return {"resolved": marker.get("resolved", {}), "progress": read_json(work.progress) or {}}
    with importing():
        from tunesmith_trainer.publish import publish

    marker = run_stage(stage, publish, work.root)
    return {name: marker[name] for name in ("artifact", "metrics")}


def _train_with(store: WorkStore, options: argparse.Namespace) -> dict[str, Any]:
    """Train from the newest checkpoint in a store, and keep new ones there until the result is."""
    from tunesmith_trainer.stages.runner import load_config
    from tunesmith_trainer.train.checkpointing.uploads import Checkpoints, CheckpointUploads

    checkpoints = Checkpoints(store, options.node_rank, options.nnodes)
    checkpoints.bring()
    with CheckpointUploads(checkpoints, load_config(store.work).spec.training.checkpoint.keep):
        result = _stage(Stage.TRAIN, store.work, options)
    if options.node_rank == 0:
        store.keep(Stage.TRAIN)
    checkpoints.remove_all()
    return result


def _failed(error: StageError) -> int:
    """Say why the stage cannot go on, and return the exit code."""
    flush()
    tell_failure(error)
    print(f"{error.reason.value}: {error}", file=sys.stderr)
    return error.exit_code


def _unforeseen(stage: Stage, error: Exception) -> StageError:
    if isinstance(error, OSError) and is_write_failure(error):
        return understood(error)
    what = f"{stage.value}: {type(error).__name__}: {error}"
    return StageError(Reason.INTERNAL_ERROR, what, "Run the stage again with --debug to see where")
