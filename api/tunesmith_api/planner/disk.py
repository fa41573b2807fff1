"""The disk that a job's later stages fill, by what they write."""

from __future__ import annotations

from tunesmith_api.planner.setup import Setup
from tunesmith_api.planner.shape import ModelShape
from tunesmith_api.planner.stages import disk_parts
from tunesmith_api.resolve import resolve
from tunesmith_api.spec import TrainingJobSpec


def disk_of(spec: TrainingJobSpec, shape: ModelShape, train_rows: int) -> dict[str, int]:
    """Return the bytes that train and publish write in the work folder, by what they are, and their `total`.

    Hard links, by which the artifact shares its files with the stages, count once.

    Args:
        spec: The job.
        shape: Its model.
        train_rows: Rows of its training data, at least 1.
    """
    resolved = resolve(spec, 1, train_rows, has_bf16=False)
    # One more than is kept, while the next one is written. None is written after the last step.
    checkpoints = min(spec.training.checkpoint.keep + 1, (resolved.total_steps - 1) // resolved.checkpoint_steps)
    setup = Setup(
        method=spec.method,
        precision="fp32",
        strategy="ddp",
        processes=1,
        micro_batch_size=1,
        gradient_accumulation_steps=1,
        length=spec.training.max_length,
        gradient_checkpointing=False,
        adapter=resolved.adapter,
        gpu=False,
    )
    parts = disk_parts(spec, shape, setup.trained_parameters(shape), checkpoints)
    return {**parts, "total": sum(parts.values())}
