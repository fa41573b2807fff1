"""Heads that are trained whole beside an adapter, in fp32 as the adapter is."""

from __future__ import annotations

from typing import Any


def widen_heads(model: Any) -> None:  # noqa: ANN401 - peft's model
    """Let the trained heads be in fp32, as peft does with adapters, and take what the layers before them give.

    DeepSpeed wants all that is trained in one number format, and under ZeRO 3 there is no autocast that would convert
    what goes into a head.
    """
    from peft.utils import ModulesToSaveWrapper

    for module in model.modules():
        if not isinstance(module, ModulesToSaveWrapper):
            continue
        for head in module.modules_to_save.values():
            for weight in head.parameters():
                weight.data = weight.data.float()
            head.register_forward_pre_hook(_cast)


def _cast(head: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:  # noqa: ANN401
    """Convert what goes into a head to its number format, unless autocast does."""
    import torch

    if torch.is_autocast_enabled(inputs[0].device.type):
        return inputs
    kind = next(head.parameters()).dtype
    return tuple(value.to(kind) if value.is_floating_point() else value for value in inputs)
