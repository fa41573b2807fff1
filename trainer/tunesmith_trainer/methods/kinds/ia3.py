"""IA3: trains a factor for each output of a layer, or for each input of the last one of a feed-forward."""

from __future__ import annotations

from typing import Any

import torch

from tunesmith_api.methods import scales_inputs
from tunesmith_api.spec import AdapterSettings
from tunesmith_trainer.methods.adapter_file import AdapterFile
from tunesmith_trainer.methods.kinds.base import AdapterKind


class Ia3Kind(AdapterKind):
    """Scales the outputs of a layer, or the inputs of the second one of a feed-forward (arXiv 2205.05638).

    The paper adapts keys, values and that layer; here all linear layers are adapted unless `targetModules` names some.
    """

    peft_type = "IA3"
    parts = ("ia3_l",)

    def peft_config(self, adapter: AdapterSettings, targets: list[str], task_type: str | None) -> Any:  # noqa: ANN401
        """Return peft's configuration."""
        from peft import IA3Config

        inputs = [name for name in targets if scales_inputs(name)]
        return IA3Config(target_modules=targets, feedforward_modules=inputs, task_type=task_type)

    def saved_settings(self, adapter: AdapterSettings) -> dict[str, Any]:
        """Return nothing: there is nothing to set."""
        return {}

    def problem(self, file: AdapterFile, layer: str, adapter: AdapterSettings) -> str | None:
        """Return that outputs are scaled in place of inputs, or inputs in place of outputs."""
        wanted = "inputs" if scales_inputs(layer) else "outputs"
        found = "outputs" if self.scales_bias(file, layer) else "inputs"
        return None if found == wanted else f"scales its {found} instead of its {wanted}"

    def unmoved(self, file: AdapterFile, layer: str, adapter: AdapterSettings) -> str | None:
        """Return that all factors are one."""
        return "its factors are still 1" if bool((file.get(layer, "ia3_l") == 1).all()) else None

    def merged(self, file: AdapterFile, layer: str, weight: torch.Tensor) -> torch.Tensor:
        """Return W with its rows or its columns scaled."""
        return torch.mul(weight, file.get(layer, "ia3_l").to(weight.device))

    @property
    def formula(self) -> str:
        """The base weight and the factors."""
        return "the base weight with its rows or columns scaled"

    def expected(self, file: AdapterFile, layer: str, weight: torch.Tensor, adapter: AdapterSettings) -> torch.Tensor:
        """Return diag(l) · W, or W · diag(l) where inputs are scaled."""
        factors = file.get(layer, "ia3_l").flatten()
        return torch.einsum("oi,i->oi" if scales_inputs(layer) else "oi,o->oi", weight, factors)

    def scales_bias(self, file: AdapterFile, layer: str) -> bool:
        """Return whether outputs are scaled, to which the bias belongs."""
        return file.get(layer, "ia3_l").shape[-1] == 1

    def merged_bias(self, file: AdapterFile, layer: str, bias: torch.Tensor) -> torch.Tensor:
        """Return the bias, scaled as the outputs are."""
        return torch.mul(bias, file.get(layer, "ia3_l").reshape(bias.shape).to(bias.device))

    def expected_bias(self, file: AdapterFile, layer: str, bias: torch.Tensor) -> torch.Tensor:
        """Return diag(l) · b."""
        return torch.einsum("o,o->o", bias, file.get(layer, "ia3_l").flatten())
