"""Names and labels of a job's children."""

from __future__ import annotations

import hashlib
import re

from tunesmith_api.objects import API_VERSION
from tunesmith_api.work_folder import Stage
from tunesmith_operator.engine.labels import OWNER_KIND, OWNER_NAME, OWNER_UID, STAGE
from tunesmith_operator.engine.reconciler import KubeObject

KIND = "FineTuneJob"
CONTAINER = "trainer"
"""The container of a stage's pod."""
ATTEMPT = "tunesmith.dev/attempt"
"""Label of a stage's Job and pods: the number of the attempt, from 1."""

_LONGEST = 60
"""A pod of an Indexed Job has the Job's name, `-` and its index (up to 63) as host name: 63 characters at most."""
_DIGITS = 8


def job_name(owner: str, stage: Stage, attempt: int) -> str:
    """Return the name of a stage's Job."""
    return _child(owner, f"{stage.value}-{attempt}")


def service_name(owner: str) -> str:
    """Return the name of the headless Service through which training pods find one another."""
    name = _child(owner, Stage.TRAIN.value)
    # The name of a Service starts with a letter.
    return name if name[0].isalpha() else _hashed("job", owner, Stage.TRAIN.value)


def claim_name(owner: str, uid: str, *, taken: bool) -> str:
    """Return the name of the volume claim that is created for a job.

    Args:
        owner: Name of the job.
        uid: Its UID.
        taken: Whether the usual name belongs to the claim of an earlier job of this name.
    """
    return f"{owner}-{uid[:_DIGITS]}-work" if taken else f"{owner}-work"


def work_folder(owner: str, uid: str) -> str:
    """Return the job's work folder, from the volume's root: no two jobs have the same."""
    return f"{owner}-{uid[:_DIGITS]}"


def labels(job: KubeObject, stage: Stage | None = None, attempt: int | None = None) -> dict[str, str]:
    """Return the labels of a child.

    Args:
        job: The FineTuneJob.
        stage: The stage that the child belongs to, if any.
        attempt: The attempt that it belongs to, if any.
    """
    found = {
        "app.kubernetes.io/name": "tunesmith-trainer",
        "app.kubernetes.io/managed-by": "tunesmith",
        OWNER_UID: job["metadata"]["uid"],
        OWNER_KIND: KIND,
        OWNER_NAME: job["metadata"]["name"],
    }
    if stage is not None:
        found[STAGE] = stage.value
    if attempt is not None:
        found[ATTEMPT] = str(attempt)
    return found


def metadata(job: KubeObject, name: str, stage: Stage | None = None, attempt: int | None = None) -> KubeObject:
    """Return the metadata of a child, which is deleted with the job."""
    owner = job["metadata"]
    return {
        "name": name,
        "namespace": owner["namespace"],
        "labels": labels(job, stage, attempt),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": owner["name"],
                "uid": owner["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def _child(owner: str, suffix: str) -> str:
    """Return `OWNER-SUFFIX` as a DNS label: with a hash if the owner's name is too long or has dots."""
    plain = f"{owner}-{suffix}"
    if len(plain) <= _LONGEST and "." not in owner:
        return plain
    return _hashed(owner.replace(".", "-"), owner, suffix)


def _hashed(prefix: str, owner: str, suffix: str) -> str:
    digest = hashlib.sha256(owner.encode()).hexdigest()[:_DIGITS]
    room = _LONGEST - len(suffix) - _DIGITS - 2
    return f"{re.sub('-+$', '', prefix[:room])}-{digest}-{suffix}"
