"""Training whose container was killed for its memory is started again, as long as it can go on with less."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith_api.advice import MemorySettings
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.resolve import resolve
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.finetunejob.containers import end_of

KILLS = "tunesmith.dev/killed-for-memory"
"""Annotation of a Job of train: how many containers of earlier attempts were killed for their memory."""


def kills_of(job: KubeObject | None) -> int:
    """Return how many containers had been killed for their memory before a Job was made."""
    value = ((job or {}).get("metadata", {}).get("annotations") or {}).get(KILLS, "0")
    return int(value) if value.isdecimal() else 0


def was_killed_for_memory(pods: list[KubeObject]) -> bool:
    """Return whether the kernel has ended a container for its memory; what training notices it handles itself."""
    ends = [end for pod in pods if (end := end_of(pod)) is not None]
    return any(end.reason == "OOMKilled" for end in ends) and not any(
        end.outcome is Reason.OUT_OF_MEMORY for end in ends
    )


def can_lower(spec: FineTuneJobSpec, plan: Mapping[str, Any] | None, kills: int) -> bool:
    """Return whether training has values left that need less memory.

    Args:
        spec: The job's spec.
        plan: The status's plan.
        kills: How often it has lowered them already.
    """
    world = int((plan or {}).get("processes") or spec.processes)
    try:
        chosen = resolve(spec.training_spec(), world, 1, has_bf16=False, plan=plan)
    except StageError:
        return False
    settings: MemorySettings | None = MemorySettings(chosen.micro_batch_size, chosen.gradient_checkpointing)
    for _ in range(kills + 1):
        settings = settings.lowered(spec.training.global_batch_size // world) if settings else None
    return settings is not None
