"""What training has changed of its values because it ran out of memory: recorded, and followed by later attempts."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from tunesmith_api.advice import MemorySettings
from tunesmith_api.choices.spread import accumulation_reason, largest_divisor
from tunesmith_api.failures import StageError
from tunesmith_api.local.files import read_json, write_json
from tunesmith_api.resolve import Resolved
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.storage.work_store import WorkStore, work_store

log = logging.getLogger(__name__)

_SNAPSHOT = "adjusted"


@dataclass(frozen=True)
class Adjusted:
    """The values that replace the chosen ones, and why.

    Attributes:
        settings: The values.
        batch_reason: Why the micro-batch was changed; empty if it was not.
        checkpointing_reason: Why activations are recomputed; empty if nothing has changed.
        kills: How many containers had been killed for their memory when the last change was made.
    """

    settings: MemorySettings
    batch_reason: str = ""
    checkpointing_reason: str = ""
    kills: int = 0

    @property
    def summary(self) -> str:
        """What was changed, for people."""
        settings = self.settings
        parts = [
            f"microBatchSize {settings.micro_batch_size}, {self.batch_reason}" if self.batch_reason else "",
            f"gradientCheckpointing, {self.checkpointing_reason}" if self.checkpointing_reason else "",
        ]
        return "; ".join(filter(None, parts))

    def applied(self, resolved: Resolved) -> Resolved:
        """Return the values of a run with these in place of the chosen ones."""
        reasons, share = dict(resolved.reasons), resolved.global_batch_size // resolved.world_size
        size = min(resolved.micro_batch_size, largest_divisor(share, self.settings.micro_batch_size))
        if size != resolved.micro_batch_size:
            reasons["microBatchSize"] = self.batch_reason
            reasons["gradientAccumulationSteps"] = accumulation_reason(
                resolved.global_batch_size, resolved.world_size, size
            )
        if self.settings.gradient_checkpointing and not resolved.gradient_checkpointing:
            reasons["gradientCheckpointing"] = self.checkpointing_reason
        return replace(
            resolved,
            micro_batch_size=size,
            gradient_accumulation_steps=share // size,
            gradient_checkpointing=resolved.gradient_checkpointing or self.settings.gradient_checkpointing,
            reasons=reasons,
        )


def read_adjusted(work: WorkFolder) -> Adjusted | None:
    """Return what earlier attempts of the job have changed; None if nothing."""
    found = read_json(work.adjusted)
    if found is None:
        return None
    settings = MemorySettings(found["microBatchSize"]["value"], found["gradientCheckpointing"]["value"])
    reasons = found["microBatchSize"]["reason"], found["gradientCheckpointing"]["reason"]
    return Adjusted(settings, *reasons, kills=found["kills"])


def write_adjusted(work: WorkFolder, adjusted: Adjusted) -> None:
    """Record what was changed, for all nodes and later attempts. The file is replaced as a whole."""
    settings = adjusted.settings
    checkpointing = {"value": settings.gradient_checkpointing, "reason": adjusted.checkpointing_reason}
    found = {
        "microBatchSize": {"value": settings.micro_batch_size, "reason": adjusted.batch_reason},
        "gradientCheckpointing": checkpointing,
        "kills": adjusted.kills,
    }
    write_json(work.adjusted, found)
    if (store := work_store(work)) is not None:
        try:
            store.upload_files(_SNAPSHOT, {work.adjusted.relative_to(work.root).as_posix(): work.adjusted})
        except StageError as problem:  # an attempt that does not know of it runs out of memory itself
            log.warning("%s is not uploaded: %s", work.adjusted.name, problem)


def download_adjusted(store: WorkStore) -> bool:
    """Download what an earlier attempt has changed, and return whether there was anything.

    Raises:
        StageError: The store cannot be read.
    """
    return store.download_snapshot(_SNAPSHOT)


def remove_adjusted(store: WorkStore) -> None:
    """Delete it from the store, when training is complete. If that fails, log a warning."""
    try:
        if _SNAPSHOT in store.snapshots():
            store.delete_snapshot(_SNAPSHOT)
    except StageError as problem:
        log.warning("%s/%s cannot be deleted: %s", store.uri, _SNAPSHOT, problem)
