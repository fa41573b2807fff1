"""LoHa: the elementwise product of two products of a low rank."""

from __future__ import annotations

from typing import Any

import torch

from tunesmith_api.spec import AdapterSettings
from tunesmith_trainer.methods.adapter_file import AdapterFile
from tunesmith_trainer.methods.kinds.base import AdapterKind


class LohaKind(AdapterKind):
    """Adds alpha/rank · (A1·B1 ∘ A2·B2) to a weight: up to the square of the factors' rank (arXiv 2108.06098)."""

    peft_type = "LOHA"
    parts = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    late = ("hada_w1_a", "hada_w1_b", "hada_w2_a")

    def peft_config(self, adapter: AdapterSettings, targets: list[str], task_type: str | None) -> Any:  # noqa: ANN401
        """Return peft's configuration."""
        from peft import LoHaConfig

        return LoHaConfig(r=adapter.rank, alpha=adapter.alpha, target_modules=targets, task_type=task_type)

    def saved_settings(self, adapter: AdapterSettings) -> dict[str, Any]:
        """Return rank and scale."""
        return {"r": adapter.rank, "alpha": adapter.alpha}

    def problem(self, file: AdapterFile, layer: str, adapter: AdapterSettings) -> str | None:
        """Return that a matrix is of another rank."""
        rank = min(file.get(layer, part).shape[-1 if part.endswith("_a") else 0] for part in self.parts)
        return None if rank == adapter.rank else f"has rank {rank}, the job asks for {adapter.rank}"

    def unmoved(self, file: AdapterFile, layer: str, adapter: AdapterSettings) -> str | None:
        """Return that one of the factors is zero."""
        return None if file.get(layer, "hada_w2_b").any() else "its matrix w2_b is still zero"

    def merged(self, file: AdapterFile, layer: str, weight: torch.Tensor) -> torch.Tensor:
        """Return W + (w1_a @ w1_b) · (w2_a @ w2_b) · alpha/rank."""
        one, two, three, four = (file.get(layer, part) for part in self.parts)
        update = (one @ two).mul_(three @ four).mul_(torch.tensor(file.config["alpha"] / file.config["r"]))
        return update.to(weight.device).add_(weight)

    @property
    def formula(self) -> str:
        """The base weight and the update."""
        return "the base weight plus alpha/rank · (A1·B1 ∘ A2·B2)"

    def expected(self, file: AdapterFile, layer: str, weight: torch.Tensor, adapter: AdapterSettings) -> torch.Tensor:
        """Return W + alpha/rank · (A1·B1 ∘ A2·B2)."""
        first = torch.einsum("or,ri->oi", file.get(layer, "hada_w1_a"), file.get(layer, "hada_w1_b"))
        second = torch.einsum("or,ri->oi", file.get(layer, "hada_w2_a"), file.get(layer, "hada_w2_b"))
        return torch.addcmul(weight, first, second, value=adapter.alpha / adapter.rank)
