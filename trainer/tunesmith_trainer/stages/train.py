"""The train stage on one node: node 0 writes the stage's marker and outcome, the others wait for the marker."""

from __future__ import annotations

import logging
from typing import Any

from tunesmith_api.local.files import read_json
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.runtime.job_config import load_config
from tunesmith_trainer.runtime.measure import measuring
from tunesmith_trainer.stages.inputs import stage_inputs
from tunesmith_trainer.stages.runner import run_stage
from tunesmith_trainer.storage.work_store import work_store
from tunesmith_trainer.train.distributed.launch import launch
from tunesmith_trainer.train.distributed.peers import MARKER_SECONDS, UPLOAD_SECONDS, wait_until_complete
from tunesmith_trainer.train.distributed.topology import NodeTopology

log = logging.getLogger(__name__)


def run_train_stage(work: WorkFolder, topology: NodeTopology, *, debug: bool = False) -> dict[str, Any]:
    """Run the train stage on this node.

    Args:
        work: The work folder.
        topology: The nodes of the run.
        debug: Whether the processes show tracebacks.

    Returns:
        The stage's marker on node 0, {} on the others.

    Raises:
        StageError: The stage failed or was interrupted.
    """

    def train(config: JobConfig, work: WorkFolder) -> dict[str, Any]:
        return launch(config, work, topology, debug=debug)

    if topology.is_first:
        return run_stage(Stage.TRAIN, train, work.root)
    config = load_config(work)
    if _is_complete(config, work):
        log.info("train is complete already")
        return {}
    with measuring(work, Stage.TRAIN, topology.node_rank):
        train(config, work)
    # Stay until node 0 is done: if it has to restart, it needs this node.
    store = work_store(work)
    wait_until_complete(
        lambda: (store is None or store.is_complete(Stage.TRAIN)) and _is_complete(config, work),
        MARKER_SECONDS if store is None else UPLOAD_SECONDS,
        lambda: read_json(work.progress),
    )
    return {}


def _is_complete(config: JobConfig, work: WorkFolder) -> bool:
    """Return whether the stage's marker exists and belongs to this configuration."""
    marker = read_json(work.stage_marker(Stage.TRAIN))
    return marker is not None and bool(marker.get("inputs") == stage_inputs(Stage.TRAIN, config, work))
