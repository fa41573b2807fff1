"""Why a job fails: the closed list of reasons, and the exit codes that carry them out of a process."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a stage cannot go on. Used as condition reason in a status."""

    INVALID_SPEC = "InvalidSpec"
    INVALID_DATASET = "InvalidDataset"
    MODEL_NOT_FOUND = "ModelNotFound"
    INVALID_MODEL = "InvalidModel"
    OUT_OF_MEMORY = "OutOfMemory"
    TRAINING_DIVERGED = "TrainingDiverged"
    NOT_TRAINED = "NotTrained"
    DOES_NOT_FIT = "DoesNotFit"
    GATE_FAILED = "GateFailed"
    EXPORT_FAILED = "ExportFailed"
    PARITY_FAILED = "ParityFailed"
    DISK_FULL = "DiskFull"
    OUTPUT_FAILED = "OutputFailed"
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    INTERRUPTED = "Interrupted"
    PEER_LOST = "PeerLost"
    PEER_UNREACHABLE = "PeerUnreachable"
    INTERNAL_ERROR = "InternalError"


# Codes below 64 are final: the same input ends the same way. From 64 on, another attempt can help.
# 1 and 2 are left to Python and argparse, 128 and above to signals.
EXIT_CODES: dict[Reason, int] = {
    Reason.INVALID_SPEC: 10,
    Reason.INVALID_DATASET: 11,
    Reason.MODEL_NOT_FOUND: 12,
    Reason.INVALID_MODEL: 13,
    Reason.OUT_OF_MEMORY: 14,
    Reason.TRAINING_DIVERGED: 15,
    Reason.GATE_FAILED: 16,
    Reason.EXPORT_FAILED: 17,
    Reason.PARITY_FAILED: 18,
    Reason.DISK_FULL: 19,
    Reason.OUTPUT_FAILED: 20,
    Reason.NOT_TRAINED: 21,
    Reason.DOES_NOT_FIT: 22,
    Reason.SOURCE_UNAVAILABLE: 65,
    Reason.INTERRUPTED: 66,
    Reason.PEER_LOST: 67,  # another node of the run failed after training had started: its failure, not ours
    Reason.PEER_UNREACHABLE: 68,
    Reason.INTERNAL_ERROR: 70,
}


class StageError(Exception):
    """A failure that is understood: what is wrong, where, and what to do.

    Attributes:
        reason: The condition reason.
        message: What is wrong and where (file, line, field).
        remedy: What to do about it; empty when the message says so already.
    """

    def __init__(self, reason: Reason, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.remedy = remedy

    @property
    def exit_code(self) -> int:
        """The process exit code that carries the reason."""
        return EXIT_CODES[self.reason]

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}" if self.remedy else self.message
