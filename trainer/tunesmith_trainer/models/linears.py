"""The linear layers of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def linear_layers(model: Any, heads: Sequence[str] = ()) -> dict[str, tuple[int, int]]:  # noqa: ANN401
    """Return inputs and outputs of the linear layers that can have an adapter: all but those of the output.

    Args:
        model: A transformers model; its weights may be on the meta device.
        heads: Names of the modules that are trained whole, or that no adapter is wanted for.

    Returns:
        `{full name: (inputs, outputs)}`.
    """
    import torch

    output = model.get_output_embeddings()  # None where the model has no language-modelling head
    return {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not output and not is_within(name, heads)
    }


def is_within(name: str, modules: Sequence[str]) -> bool:
    """Return whether a name is that of one of the modules, or of something in it."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)
