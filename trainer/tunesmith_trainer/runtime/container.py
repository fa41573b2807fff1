"""What is different in a container: the job comes in a variable, and a stop comes as SIGTERM with a time limit."""

from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path
from types import FrameType

from tunesmith_api.contract import CONFIG_MAPS, GRACE_SECONDS, JOB_CONFIG
from tunesmith_api.failures import EXIT_CODES, Reason, StageError
from tunesmith_api.local.files import write_atomic
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.runtime.termination_message import tell_failure

_MARGIN = 10.0  # seconds before SIGKILL at which we end ourselves, so that our exit code tells what happened
_GROUP_WRITES = 0o002


class Terminated(BaseException):
    """SIGTERM has come. Like KeyboardInterrupt no Exception, so that nothing takes it for a failure."""


def open_work(work: WorkFolder, *, writes: bool = True) -> None:
    """Make the work folder ready for a stage: there, shared with our group, and with the job's configuration.

    Args:
        work: The work folder.
        writes: Whether this process writes the configuration: one machine of a run does.

    Raises:
        StageError: OUTPUT_FAILED: it cannot be written.
    """
    given = os.environ.get(JOB_CONFIG)
    if given is None:
        return
    os.umask(_GROUP_WRITES)
    data = given.encode()
    try:
        work.root.mkdir(parents=True, exist_ok=True)
        if writes and not (work.config.is_file() and work.config.read_bytes() == data):
            write_atomic(work.config, data)
    except OSError as error:
        raise understood(error) from error


def understood(error: OSError) -> StageError:
    """Return what a failure to write means."""
    what = f"{error.filename or 'the work volume'}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StageError(Reason.OUTPUT_FAILED, what, "Give the job more room: raise storage.size")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "The volume must be writable for group 65532 (securityContext.fsGroup)"
        return StageError(Reason.OUTPUT_FAILED, what, remedy)
    return StageError(Reason.INTERNAL_ERROR, what, "Run the stage again with --debug to see where")


def is_write_failure(error: BaseException) -> bool:
    """Return whether an error says that there is no room to write."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def take_sigterm() -> None:
    """Turn SIGTERM into `Terminated`, from now on.

    As the first process of a container we would not get it otherwise: the kernel gives that process only the signals
    that it has asked for. Where the time until SIGKILL is known, the process ends shortly before, whatever it does.
    """
    grace = float(os.environ.get(GRACE_SECONDS) or 0)
    if grace > _MARGIN:
        _end_before(grace - _MARGIN)

    def handle(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, handle)


def interrupted() -> StageError:
    """Return the error of a stage that was told to stop."""
    return StageError(Reason.INTERRUPTED, "told to stop before it was complete", "Run it again to go on")


def _end_before(seconds: float) -> None:
    """Watch for SIGTERM from a thread, and end the process `seconds` after it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # Written at once by the C handler, also while Python waits for a library.
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        while signal.SIGTERM not in os.read(reader, 1):
            pass
        threading.Event().wait(seconds)
        tell_failure(interrupted())
        os._exit(EXIT_CODES[Reason.INTERRUPTED])

    threading.Thread(target=watch, name="sigterm", daemon=True).start()


def config_maps(work: WorkFolder) -> Path:
    """Return the folder with the ConfigMaps, `NAME/KEY`: mounted beside the volume, or in the work folder."""
    return Path(os.environ.get(CONFIG_MAPS) or work.config_maps)
