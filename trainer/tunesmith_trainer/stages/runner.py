"""One way to run a stage: skip it when it is complete, tell its outcome, turn failures into exit codes."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunesmith_api.artifact import digest_of_json
from tunesmith_api.contract import COMPLETED, JOB_CONFIG, outcome_of
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import STAGE_INPUTS, Stage, WorkFolder
from tunesmith_trainer.storage.files import read_json, sweep, write_json

log = logging.getLogger(__name__)

StageFunction = Callable[[JobConfig, WorkFolder], dict[str, Any]]


def load_config(work: WorkFolder) -> JobConfig:
    """Return the job's configuration.

    Raises:
        StageError: The file is absent, no JSON, or not a valid job.
    """
    given = os.environ.get(JOB_CONFIG)
    try:
        return JobConfig.model_validate_json(given if given is not None else work.config.read_bytes())
    except FileNotFoundError:
        raise StageError(
            Reason.INVALID_SPEC, f"{work.config}: no such file", "Give the work folder of a job with --work"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        where = JOB_CONFIG if given is not None else work.config
        raise StageError(Reason.INVALID_SPEC, f"{where}: {field}: {first['msg']}") from None


def stage_inputs(stage: Stage, config: JobConfig, work: WorkFolder) -> str:
    """Return the digest of all that a stage's result depends on: the spec, and the stages before it."""
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

    Run again after it has completed it does nothing. When the job's configuration is another than the one that the
    folder's results were made from, the stage starts over.

    Raises:
        StageError: The stage cannot be completed; the outcome file says the same.
    """
    work = WorkFolder(root)
    # Whoever came before has been killed: this one holds the stage's lock.
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
    """Write a failure as the stage's outcome, for whoever started the stage."""
    try:
        write_json(work.outcome(stage), outcome_of(error))
    except OSError as problem:  # The volume may be what has failed.
        log.warning("%s cannot be written: %s", work.outcome(stage), problem)
