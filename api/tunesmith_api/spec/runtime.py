"""How a model is served: `spec.runtime` of an InferenceWorkspace."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, get_args

from pydantic import Field

from tunesmith_api.spec.base import SpecModel

# Exports are made for the CPU: their fp32 GroupQueryAttention has no CUDA kernel, so no other value would work.
ExecutionProvider = Literal["cpu"]
ServedPrecision = Literal["fp32", "int4"]
"""The precisions that the execution provider cpu can compute; it has no kernels for 16 bits."""


def servable(precisions: Iterable[object]) -> list[str]:
    """Return those of some exports' precisions that a server can compute."""
    return [str(precision) for precision in precisions if str(precision) in get_args(ServedPrecision)]


def cannot_serve(precisions: Iterable[object]) -> str:
    """Return the end of a sentence about an artifact that holds none but other precisions, with what to do."""
    held = " and ".join(map(str, precisions))
    return (
        f"holds only {held}, which a server on the CPU cannot compute; add int4 or fp32 to its job's export.precisions"
    )


class RuntimeSpec(SpecModel):
    """How a model is run: `spec.runtime` of an InferenceWorkspace."""

    precision: Annotated[
        ServedPrecision,
        Field(description="Precision of the exported model to load; the artifact must hold `onnx/<precision>/`."),
    ] = "int4"
    execution_provider: Annotated[
        ExecutionProvider,
        Field(description="What ONNX Runtime computes on: `cpu`."),
    ] = "cpu"
    context_length: Annotated[
        int,
        Field(
            ge=16,
            le=1_048_576,
            description=(
                "Tokens of prompt and answer together that one request may take. The key-value cache is allocated "
                "for maxBatchSize times this length; above what the model was built for, the model's own length holds."
            ),
        ),
    ] = 2048
    max_batch_size: Annotated[
        int,
        Field(ge=1, le=256, description="Requests that are answered at the same time (slots of the batch)."),
    ] = 8
    max_queue_length: Annotated[
        int,
        Field(ge=0, le=100_000, description="Requests that may wait for a slot; more are answered with 429."),
    ] = 64
