"""How a model is served: `spec.runtime` of an InferenceWorkspace."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, get_args

from pydantic import Field

from tunesmith_api.spec.base import SpecModel
from tunesmith_api.spec.quantity import CacheMemory, amount

# Exports are made for the CPU: their fp32 GroupQueryAttention has no CUDA kernel, so no other value would work.
ExecutionProvider = Literal["cpu"]
ServedPrecision = Literal["int4", "int8", "fp32"]
"""The precisions that the execution provider cpu can compute, the smallest first; it has no kernels for 16 bits."""


def servable(precisions: Iterable[object]) -> list[str]:
    """Return those of some exports' precisions that a server can compute, the smallest first."""
    held = set(map(str, precisions))
    return [precision for precision in get_args(ServedPrecision) if precision in held]


def served_precision(held: Iterable[object], wanted: str | None = None) -> str | None:
    """Return the precision of an artifact that is served.

    Args:
        held: The precisions that it holds.
        wanted: `spec.runtime.precision`.

    Returns:
        The wanted one, held or not; without one the first of int4, int8 and fp32 that is held; None if none is.
    """
    return wanted or next(iter(servable(held)), None)


def cannot_serve(precisions: Iterable[object]) -> str:
    """Return the end of a sentence about an artifact that holds none but other precisions, with what to do."""
    held = " and ".join(map(str, precisions))
    return (
        f"holds only {held}, which a server on the CPU cannot compute; add fp32, or a smaller one that its task has "
        "(int4, int8), to its job's export.precisions"
    )


class RuntimeSpec(SpecModel):
    """How a model is run: `spec.runtime` of an InferenceWorkspace."""

    precision: Annotated[
        ServedPrecision | None,
        Field(
            description=(
                "Precision of the exported model to load; the artifact must hold `onnx/<precision>/`. Left out, the "
                "first of int4, int8 and fp32 that it holds."
            )
        ),
    ] = None
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
                "Tokens of prompt and answer together that one request may take; above what the model was built for, "
                "the model's own length holds. Keys and values take memory as they are computed: maxBatchSize times "
                "this length may be more than fits, and then a request waits until there is memory for it."
            ),
        ),
    ] = 2048
    max_batch_size: Annotated[
        int,
        Field(ge=1, le=256, description="Requests that are answered at the same time (slots of the batch)."),
    ] = 8
    prefix_cache_memory: Annotated[
        CacheMemory,
        Field(
            description=(
                "Memory for the keys and values of earlier prompts and answers: a request that begins with the same "
                "tokens, as with the same system prompt or in a conversation, does not compute them again. `0` turns "
                "it off; `auto` takes a quarter of what is free once the model is loaded, at most 4Gi."
            )
        ),
    ] = "auto"
    draft_tokens: Annotated[
        int,
        Field(
            ge=0,
            le=16,
            description=(
                "The most tokens that are drafted for a request in a step, from what followed the same tokens in its "
                "prompt and answer, and checked by the model together (prompt lookup). Drafts change how fast answers "
                "are, not what they are, and are made only while they make them faster. `0` turns them off."
            ),
        ),
    ] = 5
    max_queue_length: Annotated[
        int,
        Field(ge=0, le=100_000, description="Requests that may wait for a slot; more are answered with 429."),
    ] = 64

    @property
    def prefix_cache_bytes(self) -> int | None:
        """The memory of the prefix cache in bytes; None for a share of what is free."""
        return None if self.prefix_cache_memory == "auto" else int(amount(self.prefix_cache_memory))
