"""Finds trained weights that training left as they were."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch

from tunesmith_api.failures import Reason, StageError

Fingerprints = Mapping[str, tuple[float, float]]


def fingerprints(weights: Iterable[tuple[str, Any]]) -> dict[str, tuple[float, float]]:
    """Return the sum and the Euclidean norm of each tensor, in float64, by its name."""
    return {
        name: (
            float(tensor.detach().sum(dtype=torch.float64)),
            float(torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64)),
        )
        for name, tensor in weights
    }


def require_moved(before: Fingerprints, after: Fingerprints, late: Collection[str]) -> None:
    """Fail if trainable tensors have the same values at the end of training as at its beginning.

    Args:
        before: Fingerprints at the beginning.
        after: Fingerprints at the end.
        late: Tensors that are left out: a short run leaves those whose gradient is zero until others have moved, such
            as LoRA's matrix A.

    Raises:
        StageError: NOT_TRAINED, naming the tensors.
    """
    compared = [name for name in before if name in after and name not in late]
    still = [name for name in compared if before[name] == after[name]]
    if not still:
        return
    shown = ", ".join(still[:3]) + (", ..." if len(still) > 3 else "")
    raise StageError(
        Reason.NOT_TRAINED,
        f"training did not change {len(still)} of {len(compared)} trained tensors: {shown}",
        "Train for more steps than the warm-up takes (training.warmupRatio), or with a higher learning rate",
    )
