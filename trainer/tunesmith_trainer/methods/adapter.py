"""A trained adapter in peft's layout: which tensors of the base model it changes, and how."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch

from tunesmith_trainer.methods.adapter_file import AdapterFile
from tunesmith_trainer.methods.kinds.registry import kind_of


class AdapterWeights(AdapterFile):
    """An adapter of any kind.

    Attributes:
        kind: The kind that adapter_config.json describes.
        layers: Full names of the layers that have an adapter.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.kind = kind_of(self.config)
        self.layers = self.layers_with(self.kind.parts[0])

    @cached_property
    def tensors(self) -> dict[str, str]:
        """The layer of each tensor of the base model that the adapter changes; of biases, which need not exist."""
        weights = {f"{layer}.weight": layer for layer in self.layers}
        return weights | {f"{layer}.bias": layer for layer in self.layers if self.kind.scales_bias(self, layer)}

    def merged(self, layer: str, weight: torch.Tensor) -> torch.Tensor:
        """Return a layer's merged weight, float32 [out, in], by the same operations as peft's.

        Args:
            layer: The layer's full name.
            weight: The base model's weight, float32 [out, in].
        """
        return self.kind.merged(self, layer, weight)

    def merged_bias(self, layer: str, bias: torch.Tensor) -> torch.Tensor:
        """Return a layer's merged bias, float32 [out]."""
        return self.kind.merged_bias(self, layer, bias)

    def merged_tensor(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor of `tensors`, merged.

        Args:
            name: Its name.
            tensor: The base model's, float32.
        """
        layer = self.tensors[name]
        return self.merged(layer, tensor) if name.endswith(".weight") else self.merged_bias(layer, tensor)
