"""Runs a stage: skips it if it is complete, and writes its marker and its outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tunesmith_api.contract import COMPLETED, outcome_of
from tunesmith_api.failures import StageError
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import STAGE_INPUTS, Stage, WorkFolder
from tunesmith_trainer.runtime.job_config import load_config
from tunesmith_trainer.runtime.measure import measuring
from tunesmith_trainer.stages.inputs import discard_outdated, publish_parts, stage_inputs
from tunesmith_trainer.storage.files import read_json, sweep, write_json

log = logging.getLogger(__name__)

StageFunction = Callable[[JobConfig, WorkFolder], dict[str, Any]]
Recheck = Callable[[JobConfig, WorkFolder, Mapping[str, Any]], None]


def run_stage(stage: Stage, function: StageFunction, root: Path, recheck: Recheck | None = None) -> dict[str, Any]:
    """Run one stage of the job in a work folder and return its result (what `stage.json` holds).

    A complete stage is skipped. If its inputs have changed, what depends on them is made again.

    Args:
        stage: The stage.
        function: Does the stage's work.
        root: The work folder.
        recheck: Checks the fields that the stage checks but its result does not depend on. It is called with the
            result when the stage is complete already, as these fields may have changed.

    Raises:
        StageError: The stage failed. The outcome file holds the same error.
    """
    work = WorkFolder(root)
    # Only killed processes can have left these: this process holds the stage's lock.
    sweep(work.stage(stage), "**/.*.tmp")
    for path in (work.progress, work.outcome(stage)):
        sweep(work.root, f".{path.name}.*.tmp")
    try:
        config = load_config(work)
        inputs = stage_inputs(stage, config, work)
        marker = read_json(work.stage_marker(stage))
        if marker is not None and marker.get("inputs") == inputs:
            if recheck is not None:
                recheck(config, work, marker)
            log.info("%s is complete already", stage.value)
            write_json(work.outcome(stage), {"reason": COMPLETED})
            return marker
        parts = publish_parts(config, work) if stage is Stage.PUBLISH else {}
        discard_outdated(stage, work, inputs, parts)
        write_json(work.stage(stage) / STAGE_INPUTS, {"inputs": inputs, **({"parts": parts} if parts else {})})
        with measuring(work, stage):
            result = {"inputs": inputs, **function(config, work)}
        write_json(work.stage_marker(stage), result)
        write_json(work.outcome(stage), {"reason": COMPLETED})
        return result
    except StageError as error:
        report_failure(work, stage, error)
        raise


def report_failure(work: WorkFolder, stage: Stage, error: StageError) -> None:
    """Write a failure as the stage's outcome. If it cannot be written, log a warning."""
    try:
        write_json(work.outcome(stage), outcome_of(error))
    except OSError as problem:  # The volume may be what has failed.
        log.warning("%s cannot be written: %s", work.outcome(stage), problem)
