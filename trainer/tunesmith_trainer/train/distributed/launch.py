"""Starts training on this node: in this process, or in several processes by torchrun."""

from __future__ import annotations

from typing import Any

from tunesmith_api.choices.spread import micro_batch
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.local.imports import importing
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.runtime.model_libraries import importing_models
from tunesmith_trainer.train.distributed.interrupt import Interrupt
from tunesmith_trainer.train.distributed.topology import NodeTopology
from tunesmith_trainer.train.lower_memory import lower_after_kills, lower_memory
from tunesmith_trainer.train.trained import (
    completed_training,
    evaluate_both_models,
    evaluates_here,
    free_memory,
    record_trained,
)


def launch(config: JobConfig, work: WorkFolder, topology: NodeTopology, *, debug: bool = False) -> dict[str, Any]:
    """Train with as many processes on this node as the job asks for.

    Args:
        config: The job.
        work: Its work folder.
        topology: The nodes of the run.
        debug: Whether the processes show tracebacks.

    Returns:
        What the stage's marker holds, on node 0; {} on the others.

    Raises:
        StageError: Training failed or was interrupted.
    """
    interrupt, trained = Interrupt(), None
    try:
        with interrupt.on_signals():
            trained = completed_training(work) or _run(config, work, topology, interrupt, debug=debug)
            if topology.is_first and evaluates_here(topology.nnodes):
                record_trained(work, trained)
                if interrupt.requested:  # after the last step
                    raise KeyboardInterrupt
                evaluate_both_models(work)
            return trained
    except KeyboardInterrupt:
        when = "after training, while the models were evaluated" if trained else "before the next checkpoint"
        raise StageError(Reason.INTERRUPTED, f"interrupted {when}", "Run it again to go on") from None


def _run(
    config: JobConfig, work: WorkFolder, topology: NodeTopology, interrupt: Interrupt, *, debug: bool
) -> dict[str, Any]:
    """Train; if memory runs out, again with values that need less, as long as there are any."""
    processes = _processes(config)
    world = processes * topology.nnodes
    micro_batch(config.spec, world)  # an impossible batch size is refused here, not once in every process
    if topology.is_first:
        lower_after_kills(config, work, world)
    in_this_process = world == 1
    while True:
        try:
            if in_this_process:
                return _fit(config, work, interrupt)
            from tunesmith_trainer.train.distributed.torchrun import run_processes

            return run_processes(config, work, topology, processes, interrupt, debug=debug)
        except StageError as error:
            if interrupt.requested or not lower_memory(config, work, world, error):
                raise
        # What has run out of memory is not used again: something may still hold on to it.
        in_this_process = False
        free_memory()


def _fit(config: JobConfig, work: WorkFolder, interrupt: Interrupt) -> dict[str, Any]:
    with importing_models():
        from tunesmith_trainer.train.failures import translate_oom
        from tunesmith_trainer.train.fit import fit

    with translate_oom(config, work):
        return fit(config, work, interrupt)


def _processes(config: JobConfig) -> int:
    """Return the number of processes on this node."""
    wanted = config.spec.distributed.num_proc_per_node
    if wanted is not None:
        return wanted
    with importing():
        import torch

    return max(1, torch.cuda.device_count() if torch.cuda.is_available() else 0)
