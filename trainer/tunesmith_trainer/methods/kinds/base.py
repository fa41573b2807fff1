"""The interface of a kind of adapter. Everything that merges, checks or exports an adapter uses it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch

from tunesmith_api.spec import AdapterSettings
from tunesmith_trainer.methods.adapter_file import AdapterFile

Sizes = Mapping[str, tuple[int, int]]
"""The inputs and outputs of linear layers by their full names."""


class AdapterKind(ABC):
    """A kind of adapter that merges exactly into the weights of its layers.

    `merged` does what peft does, by the adapter's own files. `expected` is the formula of the paper by the settings
    that the job asks for, for a check of what was merged; the two share no code.

    Attributes:
        peft_type: Its name in adapter_config.json.
        parts: Names of a layer's tensors that are trained.
        late: Those of them whose gradient is zero until another one has moved.
        shared: Names of tensors of the model that are not trained, but without which the others mean nothing.
    """

    peft_type: str
    parts: tuple[str, ...]
    late: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    def is_kind_of(self, config: Mapping[str, Any]) -> bool:
        """Return whether an adapter_config.json describes an adapter of this kind."""
        return bool(config.get("peft_type") == self.peft_type)

    def check_layers(self, layers: Sizes, adapter: AdapterSettings) -> None:  # noqa: B027 - most kinds fit any layer
        """Fail if an adapter does not fit the layers that get one.

        Raises:
            StageError: INVALID_SPEC, with what to write instead.
        """

    @abstractmethod
    def peft_config(self, adapter: AdapterSettings, targets: list[str], task_type: str | None) -> Any:  # noqa: ANN401
        """Return peft's configuration.

        Args:
            adapter: The settings that the job asks for.
            targets: Names, or ends of names, of the layers that get an adapter.
            task_type: The task's name in peft.
        """

    def prepare(self, model: Any) -> None:  # noqa: ANN401, B027 - most kinds need nothing
        """Get a model that has a new adapter ready for training."""

    @abstractmethod
    def saved_settings(self, adapter: AdapterSettings) -> dict[str, Any]:
        """Return what adapter_config.json must hold for the settings that the job asks for."""

    @abstractmethod
    def problem(self, file: AdapterFile, layer: str, adapter: AdapterSettings) -> str | None:
        """Return what is wrong with the adapter of a layer, as the end of a sentence; None if nothing is."""

    @abstractmethod
    def unmoved(self, file: AdapterFile, layer: str, adapter: AdapterSettings) -> str | None:
        """Return by what one sees that training left a layer's adapter as it was; None if it did not."""

    @abstractmethod
    def merged(self, file: AdapterFile, layer: str, weight: torch.Tensor) -> torch.Tensor:
        """Return a layer's merged weight, float32 [out, in], by the same operations as peft's.

        Args:
            file: The adapter.
            layer: The layer's full name.
            weight: The base model's weight, float32 [out, in].
        """

    @property
    @abstractmethod
    def formula(self) -> str:
        """What the merged weight is, in words."""

    @abstractmethod
    def expected(self, file: AdapterFile, layer: str, weight: torch.Tensor, adapter: AdapterSettings) -> torch.Tensor:
        """Return a layer's merged weight, float32 [out, in], by the formula of the paper.

        Args:
            file: The adapter.
            layer: The layer's full name.
            weight: The base model's weight, float32 [out, in].
            adapter: The settings that the job asks for.
        """

    def scales_bias(self, file: AdapterFile, layer: str) -> bool:
        """Return whether the adapter changes a layer's bias too, if it has one."""
        return False

    def merged_bias(self, file: AdapterFile, layer: str, bias: torch.Tensor) -> torch.Tensor:
        """Return a layer's merged bias, float32 [out]."""
        return bias

    def expected_bias(self, file: AdapterFile, layer: str, bias: torch.Tensor) -> torch.Tensor:
        """Return a layer's merged bias, float32 [out], by the formula of the paper."""
        return bias
