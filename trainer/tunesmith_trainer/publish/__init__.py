"""The publish stage: merge, evaluate, gate, export, check, and write the artifact."""

from __future__ import annotations

from typing import Any

from tunesmith_trainer.config import JobConfig, WorkFolder


def publish(config: JobConfig, work: WorkFolder) -> dict[str, Any]:
    """Turn trained weights into an artifact; steps that are complete already are not repeated.

    Returns:
        `{artifact: {uri, digest}, metrics: {before, after}, gates: [...], parity: {precision: numbers}}`.

    Raises:
        TrainerError: A gate failed, an export failed its parity, or the output cannot be written.
    """
    from tunesmith_trainer.publish.pipeline import run

    return run(config, work)
