"""Runs a stage: skips it if it is complete, and writes its marker and its outcome."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import digest_of_json
from tunesmith_api.contract import COMPLETED, outcome_of
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import STAGE_INPUTS, Stage, WorkFolder
from tunesmith_trainer.runtime.job_config import load_config
from tunesmith_trainer.storage.files import read_json, sweep, write_json

log = logging.getLogger(__name__)

StageFunction = Callable[[JobConfig, WorkFolder], dict[str, Any]]


def stage_inputs(stage: Stage, config: JobConfig, work: WorkFolder) -> str:
    """Return the digest of everything that a stage's result depends on: the spec and the earlier stages."""
    before = list(Stage)[: list(Stage).index(stage)]
    spec = config.spec.to_api()
    if stage is not Stage.PUBLISH:
        for name in ("evaluation", "export", "output"):
            spec.pop(name, None)
    markers = {}
    for earlier in before:
        marker = read_json(work.stage_marker(earlier))
        if marker is None:
            raise StageError(
                Reason.INTERNAL_ERROR, f"{earlier.value} is not complete", f"Run the {earlier.value} stage first"
            )
        markers[earlier.value] = digest_of_json(marker)
    return digest_of_json({"name": config.name, "spec": spec, "before": markers})


def run_stage(stage: Stage, function: StageFunction, root: Path) -> dict[str, Any]:
    """Run one stage of the job in a work folder and return its result (what `stage.json` holds).

    A complete stage is skipped. If the configuration has changed, the stage starts over.

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
        started = work.stage(stage) / STAGE_INPUTS
        marker = read_json(work.stage_marker(stage))
        if marker is not None and marker.get("inputs") == inputs:
            log.info("%s is complete already", stage.value)
            write_json(work.outcome(stage), {"reason": COMPLETED})
            return marker
        if work.stage(stage).exists() and (read_json(started) or {}).get("inputs") != inputs:
            shutil.rmtree(work.stage(stage))
        write_json(started, {"inputs": inputs})
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
