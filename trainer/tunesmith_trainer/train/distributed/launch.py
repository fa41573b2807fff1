"""Starting the train stage: in this process, or in several by torchrun."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.resolve import micro_batch
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.runtime.imports import importing
from tunesmith_trainer.stages.runner import load_config, run_stage, stage_inputs
from tunesmith_trainer.storage.files import read_json
from tunesmith_trainer.storage.work_store import work_store
from tunesmith_trainer.train.distributed.interrupt import Interrupt
from tunesmith_trainer.train.distributed.peers import MARKER_SECONDS, UPLOAD_SECONDS, wait_until_complete

log = logging.getLogger(__name__)


def launch(options: argparse.Namespace) -> dict[str, Any]:
    """Run the train stage in a work folder, with as many processes as the job wants on this machine.

    Only machine 0 writes the stage's marker and outcome.

    Args:
        options: `work`, `nnodes`, `node_rank`, `master_addr`, `master_port` and `debug`, as the command line has them.

    Returns:
        The stage's marker on machine 0, {} on the others.

    Raises:
        StageError: The stage cannot be completed, or was interrupted.
    """
    interrupt = Interrupt()

    def run(config: JobConfig, work: WorkFolder) -> dict[str, Any]:
        try:
            with interrupt.on_signals():
                return _run(config, work, options, interrupt)
        except KeyboardInterrupt:
            raise StageError(
                Reason.INTERRUPTED, "interrupted before the next checkpoint", "Run it again to go on"
            ) from None

    if options.node_rank == 0:
        return run_stage(Stage.TRAIN, run, options.work)
    work = WorkFolder(options.work)
    config = load_config(work)
    if is_complete(config, work):
        log.info("train is complete already")
        return {}
    run(config, work)
    # Ended before machine 0 has said so, this one would not be there when machine 0 has to begin again.
    store = work_store(work)
    wait_until_complete(
        lambda: (store is None or store.is_complete(Stage.TRAIN)) and is_complete(config, work),
        MARKER_SECONDS if store is None else UPLOAD_SECONDS,
    )
    return {}


def is_complete(config: JobConfig, work: WorkFolder) -> bool:
    """Return whether the stage's marker is there, and is this job's."""
    marker = read_json(work.stage_marker(Stage.TRAIN))
    return marker is not None and bool(marker.get("inputs") == stage_inputs(Stage.TRAIN, config, work))


def _run(config: JobConfig, work: WorkFolder, options: argparse.Namespace, interrupt: Interrupt) -> dict[str, Any]:
    processes = _processes(config)
    micro_batch(config.spec, processes * options.nnodes)  # refused here rather than in every process
    if processes * options.nnodes == 1:
        with importing():
            from tunesmith_trainer.train.failures import explained
            from tunesmith_trainer.train.fit import fit

        with explained(config):
            return fit(config, work, interrupt)
    from tunesmith_trainer.train.distributed.torchrun import run_processes

    return run_processes(config, work, options, processes, interrupt)


def _processes(config: JobConfig) -> int:
    """Return the number of processes on this machine."""
    wanted = config.spec.distributed.num_proc_per_node
    if wanted is not None:
        return wanted
    with importing():
        import torch

    return max(1, torch.cuda.device_count() if torch.cuda.is_available() else 0)
