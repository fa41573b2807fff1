"""Checks and describes the rows of a job, in a child process that has the trainer's readers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tunesmith_api.local.files import read_json
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_backend.interface.errors import BackendError
from tunesmith_backend.local import children
from tunesmith_backend.local.changes import ConfigMaps
from tunesmith_backend.local.inputs import write_inputs

_POLL_SECONDS = 0.02


def data_report(config: JobConfig, config_maps: ConfigMaps, *, check: bool = False) -> dict[str, Any]:
    """Return the data report of a job.

    Args:
        config: The job, with absolute paths.
        config_maps: The ConfigMaps by namespace and name.
        check: Only check that the rows on this machine can be used, and count them.

    Returns:
        The report, `{rows, format}` with `check`, or `{error: {reason, message, remedy}}` if the rows cannot be used.

    Raises:
        BackendError: The trainer cannot be run.
    """
    with tempfile.TemporaryDirectory(prefix="tunesmith-data-") as folder:
        work, output = WorkFolder(Path(folder)), Path(folder) / "report.json"
        write_inputs(config, config_maps, work, restart=False)
        arguments = ["data", "--work", folder, "--output", str(output), *(["--check"] if check else [])]
        code = children.wait(children.start("tunesmith_trainer", arguments), lambda: None, every=_POLL_SECONDS)
        report: dict[str, Any] | None = read_json(output)
    if report is None:
        raise BackendError(
            f"the rows cannot be read (exit code {code}); install tunesmith with [trainer], which holds the readers"
        )
    return report
