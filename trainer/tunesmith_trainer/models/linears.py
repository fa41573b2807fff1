"""The linear layers of a model."""

from __future__ import annotations

from typing import Any


def linear_layers(model: Any) -> dict[str, tuple[int, int]]:  # noqa: ANN401
    """Return inputs and outputs of the linear layers that can have an adapter: all but the output layer.

    Args:
        model: A transformers model; its weights may be on the meta device.

    Returns:
        `{full name: (inputs, outputs)}`.
    """
    import torch

    output = model.get_output_embeddings()  # None where the model has no language-modelling head
    return {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not output
    }
