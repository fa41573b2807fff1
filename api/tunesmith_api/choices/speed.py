"""Whether rows are packed and layers compiled, and the sizes that follow from it, which the planner counts on too."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec.job import TrainingJobSpec

LOGITS_WHOLE = 1 << 27
"""Most logits of a forward pass that are computed at once: 512 MiB in fp32, of which the loss has three at its peak."""

LOGITS_CHUNK = 1 << 26
"""Most logits that are there at a time where a forward pass has more of them: 256 MiB in fp32."""

_SET = "set in the spec"


@dataclass(frozen=True)
class PackingFacts:
    """What a model's configuration tells of packing its rows.

    Attributes:
        inexact: Why a row in a pack is not computed as it is alone; None if it is.
        slow: Why packs have no fast attention, although they are computed right; None if they have.
    """

    inexact: str | None = None
    slow: str | None = None


PACKS_WELL = PackingFacts()


def packing_of(spec: TrainingJobSpec, has_bf16: bool, facts: PackingFacts) -> tuple[bool, str]:
    """Return whether rows are packed, and why.

    Raises:
        StageError: INVALID_SPEC: the spec wants it, and the model cannot.
    """
    wanted = spec.training.packing
    if spec.compares_answers:
        return False, "objective dpo keeps the two answers of a row apart"
    if wanted and facts.inexact:
        message = f"spec.training.packing: true, but {facts.inexact}"
        raise StageError(Reason.INVALID_SPEC, message, "Write packing: false, or leave it out")
    if wanted is not None:
        return wanted, _SET
    if facts.inexact or facts.slow:
        return False, str(facts.inexact or facts.slow)
    if not has_bf16 or spec.training.precision == "fp32":
        return False, "the kernel for it is for bf16 on a GPU; rows of like length share a batch"
    return True, "the GPU has a kernel by which each row attends to itself alone"


def compile_of(spec: TrainingJobSpec, strategy: str) -> tuple[bool, str]:
    """Return whether layers are compiled, and why.

    Raises:
        StageError: INVALID_SPEC: the spec wants it, under a strategy that takes layers apart.
    """
    if spec.training.compile and strategy == "zero3":
        message = "spec.training.compile: true does not go with ZeRO 3, which gathers weights inside of the layers"
        raise StageError(Reason.INVALID_SPEC, message, "Write compile: false, or distributed: {strategy: zero2}")
    if spec.training.compile is not None:
        return spec.training.compile, _SET
    return False, "off by default, as it takes minutes before the first step"


def bucket(tokens: int) -> int:
    """Return the length that a pack of so many tokens is filled up to on a GPU, so that few lengths occur.

    That is a multiple of 8 and at most a 32nd more, or 7 tokens.
    """
    step = max(8, 1 << max(0, (tokens - 1).bit_length() - 6))
    return -(-tokens // step) * step
