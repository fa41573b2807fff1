"""Names that follow from a job's id, so that nothing is made twice."""

from __future__ import annotations

import hashlib
import string

_ALPHABET = string.ascii_letters + string.digits


def object_name(job_id: str) -> str:
    """Return the name of a job's FineTuneJob, and of the InferenceWorkspace of its model: a DNS label."""
    return f"ft-{job_id.rpartition('-')[2].lower()}"


def model_name(base: str, organization: str, suffix: str | None, job_id: str) -> str:
    """Return the name of a job's model: `ft:BASE:ORG:SUFFIX:ID`."""
    return f"ft:{base}:{organization}:{suffix or ''}:{job_id[-8:]}"


def checkpoint_name(model: str, step: int) -> str:
    """Return the name of a model's checkpoint."""
    return f"{model}:ckpt-step-{step}"


def derived_id(prefix: str, job_id: str, what: str) -> str:
    """Return an id that is the same whenever it is asked for."""
    number = int.from_bytes(hashlib.sha256(f"{job_id}/{what}".encode()).digest())
    letters = []
    for _ in range(24):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return prefix + "".join(letters)
