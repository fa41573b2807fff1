"""The optimizer's groups of parameters."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def loraplus_groups(
    model: Any,  # noqa: ANN401 - a torch module
    decayed: Collection[str],
    rate: float,
    ratio: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Return LoRA+'s groups: LoRA's matrices B learn at a higher rate than all else (arXiv 2402.12354).

    Args:
        model: The model to train.
        decayed: Names of the parameters that weight decay is applied to.
        rate: Learning rate of all else.
        ratio: Learning rate of the matrices B, in times of that.
        weight_decay: Weight decay.
    """
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = []
    for faster in (False, True):
        for decays in (True, False):
            chosen = [p for name, p in trained if (".lora_B." in name) is faster and (name in decayed) is decays]
            decay = weight_decay if decays else 0.0
            groups.append({"params": chosen, "lr": rate * (ratio if faster else 1.0), "weight_decay": decay})
    return [group for group in groups if group["params"]]
