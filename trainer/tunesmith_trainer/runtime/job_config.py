"""Reads the job's configuration, and creates the work folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pydantic import ValidationError

from tunesmith_api.contract import CONFIG_MAPS, JOB_CONFIG
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.local.files import write_atomic
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.runtime.disk import disk_full

_GROUP_WRITABLE = 0o002


def open_work(work: WorkFolder, *, writes: bool = True) -> None:
    """In a container, create the work folder, writable for the group, and write the job's configuration into it.

    Args:
        work: The work folder.
        writes: Whether this process writes the configuration. Of several nodes, one does.

    Raises:
        StageError: OUTPUT_FAILED: the folder cannot be written. DISK_FULL: its disk is full.
    """
    from_env = os.environ.get(JOB_CONFIG)
    if from_env is None:
        return
    os.umask(_GROUP_WRITABLE)
    data = from_env.encode()
    try:
        work.root.mkdir(parents=True, exist_ok=True)
        if writes and not (work.config.is_file() and work.config.read_bytes() == data):
            write_atomic(work.config, data)
    except OSError as error:
        raise translate_write_error(error) from error


def load_config(work: WorkFolder) -> JobConfig:
    """Return the job's configuration, from the environment or from the work folder.

    Raises:
        StageError: INVALID_SPEC: the file does not exist, is not JSON, or is not a valid job.
    """
    from_env = os.environ.get(JOB_CONFIG)
    try:
        return JobConfig.model_validate_json(from_env if from_env is not None else work.config.read_bytes())
    except FileNotFoundError:
        raise StageError(
            Reason.INVALID_SPEC, f"{work.config}: no such file", "Give the work folder of a job with --work"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        where = JOB_CONFIG if from_env is not None else work.config
        raise StageError(Reason.INVALID_SPEC, f"{where}: {field}: {first['msg']}") from None


def config_maps(work: WorkFolder) -> Path:
    """Return the folder of the ConfigMaps, `NAME/KEY`: mounted beside the volume, or in the work folder."""
    return Path(os.environ.get(CONFIG_MAPS) or work.config_maps)


def translate_write_error(error: OSError) -> StageError:
    """Translate a write error into a StageError."""
    what = f"{error.filename or 'the work volume'}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(Path(error.filename or "."))
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "The volume must be writable for group 65532 (securityContext.fsGroup)"
        return StageError(Reason.OUTPUT_FAILED, what, remedy)
    return StageError(Reason.INTERNAL_ERROR, what, "Run the stage again with --debug to see where")


def is_volume_error(error: BaseException) -> bool:
    """Return whether an error means that the volume is full or read-only."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
