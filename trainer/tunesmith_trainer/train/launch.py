"""Starting the train stage: in this process, or in several by torchrun."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from tunesmith_trainer.config import JobConfig, Reason, Stage, TrainerError, WorkFolder
from tunesmith_trainer.config.resolve import micro_batch
from tunesmith_trainer.files import read_json
from tunesmith_trainer.stages import load_config, run_stage, stage_inputs
from tunesmith_trainer.train.interrupt import Interrupt

log = logging.getLogger(__name__)


def launch(options: argparse.Namespace) -> None:
    """Run the train stage in a work folder, with as many processes as the job wants on this machine.

    Only machine 0 writes the stage's marker and outcome.

    Args:
        options: `work`, `nnodes`, `node_rank`, `master_addr`, `master_port` and `debug`, as the command line has them.

    Raises:
        TrainerError: The stage cannot be completed, or was interrupted.
    """
    interrupt = Interrupt()

    def run(config: JobConfig, work: WorkFolder) -> dict[str, Any]:
        try:
            with interrupt.on_signals():
                return _run(config, work, options, interrupt)
        except KeyboardInterrupt:
            raise TrainerError(
                Reason.INTERRUPTED, "interrupted before the next checkpoint", "Run it again to go on"
            ) from None

    if options.node_rank == 0:
        run_stage(Stage.TRAIN, run, options.work)
        return
    work = WorkFolder(options.work)
    config = load_config(work)
    marker = read_json(work.stage_marker(Stage.TRAIN))
    if marker is not None and marker.get("inputs") == stage_inputs(Stage.TRAIN, config, work):
        log.info("train is complete already")
        return
    run(config, work)


def _run(config: JobConfig, work: WorkFolder, options: argparse.Namespace, interrupt: Interrupt) -> dict[str, Any]:
    processes = _processes(config)
    micro_batch(config.spec, processes * options.nnodes)  # refused here rather than in every process
    if processes * options.nnodes == 1:
        from tunesmith_trainer.train.failures import explained
        from tunesmith_trainer.train.fit import fit

        with explained(config):
            return fit(config, work, interrupt)
    from tunesmith_trainer.train.torchrun import run_processes

    return run_processes(config, work, options, processes, interrupt)


def _processes(config: JobConfig) -> int:
    """Return the number of processes on this machine."""
    wanted = config.spec.distributed.num_proc_per_node
    if wanted is not None:
        return wanted
    import torch

    return max(1, torch.cuda.device_count() if torch.cuda.is_available() else 0)
