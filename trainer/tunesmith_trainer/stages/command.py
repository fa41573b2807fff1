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
from tunesmith_api.local.files import read_json, write_json
from tunesmith_api.local.imports import importing
from tunesmith_api.work_folder import STAGE_INPUTS, Stage, WorkFolder
from tunesmith_trainer.runtime.disk import is_full, job_disk_full
from tunesmith_trainer.runtime.job_config import is_volume_error, load_config, open_work, translate_write_error
from tunesmith_trainer.runtime.measure import read_measured
from tunesmith_trainer.runtime.progress_report import flush_progress
from tunesmith_trainer.runtime.stage_lock import stage_lock
from tunesmith_trainer.runtime.termination import Terminated, install_sigterm_handler, interrupted
from tunesmith_trainer.runtime.termination_message import write_failure, write_result
from tunesmith_trainer.stages.inputs import stage_inputs
from tunesmith_trainer.stages.runner import report_failure
from tunesmith_trainer.storage.work_store import WorkStore, work_store
from tunesmith_trainer.train.distributed.topology import NodeTopology


def main(arguments: list[str] | None = None) -> int:
    """Run a stage and return the process exit code (see `EXIT_CODES`)."""
    parser = argparse.ArgumentParser(prog="python -m tunesmith_trainer", description=__doc__)
    parser.add_argument("stage", choices=[stage.value for stage in Stage])
    parser.add_argument("--work", type=Path, required=True, help="the job's work folder, with its config.json")
    parser.add_argument("--nnodes", type=int, default=1, help="nodes that train together")
    parser.add_argument("--node-rank", type=int, default=0, help="index of this node, from 0")
    parser.add_argument("--master-addr", default="127.0.0.1", help="address of node 0")
    parser.add_argument("--master-port", type=int, default=0, help="port on node 0; any free one by default")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
    )
    for chatty in ("httpx", "httpx2", "httpcore", "urllib3", "filelock", "fsspec", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # For CPU training on shared cores: OpenMP threads that spin while they wait slow everything down, and threads that
    # sleep at once cost a tenth of the speed. So they spin for some tens of microseconds. torch reads both variables
    # when it is loaded. Remove when libgomp's defaults are as fast on shared cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    stage, work = Stage(options.stage), WorkFolder(options.work)
    topology = NodeTopology(options.nnodes, options.node_rank, options.master_addr, options.master_port)
    install_sigterm_handler()
    try:
        result = _run(stage, work, topology, debug=options.debug)
        measured = read_measured(work, stage) if topology.is_first else {}
        write_result({**result, **({"measured": measured} if measured else {})})
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
        failure = _unexpected(stage, error, work)
        if topology.is_first:
            report_failure(work, stage, failure)
        return _failed(failure)
    return 0


def _run(stage: Stage, work: WorkFolder, topology: NodeTopology, *, debug: bool) -> dict[str, Any]:
    """Run one stage and return its result for the job's status."""
    open_work(work, writes=topology.is_first)
    if not work.root.is_dir():
        raise StageError(Reason.INVALID_SPEC, f"{work.root}: no such folder", "Give the work folder of a job")
    with stage_lock(work.lock(topology.node_rank)):
        store = work_store(work)
        if store is None or store.download(stage):
            return _stage(stage, work, topology, debug=debug)
        if stage is Stage.TRAIN:
            return _train_with(store, topology, debug=debug)
        result = _stage(stage, work, topology, debug=debug)
        store.upload(stage)
        return result


def _stage(stage: Stage, work: WorkFolder, topology: NodeTopology, *, debug: bool) -> dict[str, Any]:
    """Run one stage in the work folder. Each stage imports only what it needs."""
    from tunesmith_trainer.stages.runner import run_stage

    if stage is Stage.PREPARE:
        with importing():
            from tunesmith_trainer.prepare.pipeline import prepare, recheck

        marker = run_stage(stage, prepare, work.root, recheck)
        return {name: marker[name] for name in ("plan",) if name in marker}
    if stage is Stage.TRAIN:
        from tunesmith_trainer.stages.train import run_train_stage

        marker = run_train_stage(work, topology, debug=debug)
        if not marker:
            return {}
        return {"resolved": marker.get("resolved", {}), "progress": read_json(work.progress) or {}}
    with importing():
        from tunesmith_trainer.publish import publish

    marker = run_stage(stage, publish, work.root)
    return {name: marker[name] for name in ("artifact", "metrics")}


def _train_with(store: WorkStore, topology: NodeTopology, *, debug: bool) -> dict[str, Any]:
    """Train from the newest checkpoint in a store. Upload checkpoints while training, and then the result."""
    from tunesmith_trainer.train.adjusted import download_adjusted, remove_adjusted
    from tunesmith_trainer.train.checkpointing.uploads import CheckpointUploads, StoredCheckpoints

    work = store.work
    checkpoints = StoredCheckpoints(store, topology.node_rank, topology.nnodes)
    checkpoints.download()
    if download_adjusted(store):
        # A folder that does not say what it belongs to would be removed.
        inputs = stage_inputs(Stage.TRAIN, load_config(work), work)
        write_json(work.stage(Stage.TRAIN) / STAGE_INPUTS, {"inputs": inputs})
    with CheckpointUploads(checkpoints, load_config(work).spec.training.checkpoint.keep):
        result = _stage(Stage.TRAIN, work, topology, debug=debug)
    if topology.is_first:
        store.upload(Stage.TRAIN)
        remove_adjusted(store)
    checkpoints.remove_all()
    return result


def _failed(error: StageError) -> int:
    """Report why the stage failed, and return the exit code."""
    flush_progress()
    write_failure(error)
    print(f"{error.reason.value}: {error}", file=sys.stderr)
    return error.exit_code


def _unexpected(stage: Stage, error: Exception, work: WorkFolder) -> StageError:
    if is_full(error, work.root):
        return job_disk_full(work, error)
    if isinstance(error, OSError) and is_volume_error(error):
        return translate_write_error(error)
    what = f"{stage.value}: {type(error).__name__}: {error}"
    return StageError(Reason.INTERNAL_ERROR, what, "Run the stage again with --debug to see where")
