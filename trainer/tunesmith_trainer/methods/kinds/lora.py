"""LoRA (arXiv 2106.09685), and DoRA, which trains the magnitudes of the weights apart from it (arXiv 2402.09353)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import AdapterSettings
from tunesmith_trainer.methods.adapter_file import AdapterFile
from tunesmith_trainer.methods.kinds.base import AdapterKind, Sizes


class LoraKind(AdapterKind):
    """Adds the product of two matrices of a low rank to a weight: W + s · B·A, with s = alpha / rank.

    With rsLoRA, s is alpha / sqrt(rank) (arXiv 2312.03732). Where A and B begin as a part of the base weights, a
    trained adapter holds the trained matrices and those at the beginning: see `methods.start`.
    """

    peft_type = "LORA"
    parts: tuple[str, ...] = ("lora_A", "lora_B")
    late = ("lora_A",)
    is_decomposed = False

    def is_kind_of(self, config: Mapping[str, Any]) -> bool:
        """Return whether it is a LoRA adapter, of DoRA or not as this kind is."""
        return super().is_kind_of(config) and bool(config.get("use_dora")) is self.is_decomposed

    def check_layers(self, layers: Sizes, adapter: AdapterSettings) -> None:
        """Fail if a rank is larger than a layer whose components the matrices begin with."""
        if not adapter.begins_with_base:
            return
        smallest = min(layers, key=lambda name: min(layers[name]))
        if adapter.rank > min(layers[smallest]):
            raise StageError(
                Reason.INVALID_SPEC,
                f"spec.adapter.rank: {adapter.rank} with initLoraWeights: {adapter.init_lora_weights}, but the weight "
                f"of {smallest} has {min(layers[smallest])} components",
                f"Write rank: {min(layers[smallest])} or less, or leave initLoraWeights out",
            )

    def peft_config(self, adapter: AdapterSettings, targets: list[str], task_type: str | None) -> Any:  # noqa: ANN401
        """Return peft's configuration."""
        from peft import LoraConfig

        return LoraConfig(
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            lora_dropout=adapter.dropout,
            target_modules=targets,
            use_dora=self.is_decomposed,
            use_rslora=adapter.use_rslora,
            bias="none",
            task_type=task_type,
        )

    def saved_settings(self, adapter: AdapterSettings) -> dict[str, Any]:
        """Return rank, scale and kind."""
        rank, alpha = doubled(adapter) if adapter.begins_with_base else (adapter.rank, adapter.alpha)
        return {"r": rank, "lora_alpha": alpha, "use_rslora": adapter.use_rslora, "use_dora": self.is_decomposed}

    def problem(self, file: AdapterFile, layer: str, adapter: AdapterSettings) -> str | None:
        """Return that the matrices are of another rank."""
        down, up = file.get(layer, "lora_A"), file.get(layer, "lora_B")
        rank = self.saved_settings(adapter)["r"]
        if down.shape[0] != rank or up.shape[1] != rank:
            return f"has rank {down.shape[0]}, the job asks for {rank}"
        return None

    def unmoved(self, file: AdapterFile, layer: str, adapter: AdapterSettings) -> str | None:
        """Return that B is zero, or that A and B are as they began."""
        up, rank = file.get(layer, "lora_B"), adapter.rank
        if not adapter.begins_with_base:
            return None if up.any() else "its matrix B is still zero"
        down = file.get(layer, "lora_A")
        same = torch.equal(up[:, :rank], -up[:, rank:]) and torch.equal(down[:rank], down[rank:])
        return "its matrices are still those that it began with" if same else None

    def merged(self, file: AdapterFile, layer: str, weight: torch.Tensor) -> torch.Tensor:
        """Return W + s · B·A."""
        update = (file.get(layer, "lora_B") @ file.get(layer, "lora_A")).mul_(scaling(file, layer)).to(weight.device)
        update += weight
        return update

    @property
    def formula(self) -> str:
        """The base weight and the update."""
        return "the base weight plus alpha/rank · B·A"

    def expected(self, file: AdapterFile, layer: str, weight: torch.Tensor, adapter: AdapterSettings) -> torch.Tensor:
        """Return W + s · B·A."""
        return weight + lora_scale(adapter) * (file.get(layer, "lora_B") @ file.get(layer, "lora_A"))


class DoraKind(LoraKind):
    """Scales each row of W + s · B·A to a trained magnitude."""

    parts = (*LoraKind.parts, "lora_magnitude_vector")
    is_decomposed = True

    def merged(self, file: AdapterFile, layer: str, weight: torch.Tensor) -> torch.Tensor:
        """Return m · (W + s · B·A) / ‖W + s · B·A‖, by rows."""
        result = super().merged(file, layer, weight)
        magnitudes = file.get(layer, "lora_magnitude_vector").to(weight.device)
        result *= (magnitudes / torch.linalg.norm(result, dim=1)).view(-1, 1)
        return result

    @property
    def formula(self) -> str:
        """As LoRA's, with magnitudes."""
        return f"{super().formula}, scaled to the trained magnitudes"

    def expected(self, file: AdapterFile, layer: str, weight: torch.Tensor, adapter: AdapterSettings) -> torch.Tensor:
        """Return m · (W + s · B·A) / ‖W + s · B·A‖, by rows."""
        result = super().expected(file, layer, weight, adapter)
        result *= file.get(layer, "lora_magnitude_vector").reshape(-1, 1) / result.norm(dim=1, keepdim=True)
        return result


def lora_scale(adapter: AdapterSettings) -> float:
    """Return the factor of an update by the settings that a job asks for."""
    return adapter.alpha / (math.sqrt(adapter.rank) if adapter.use_rslora else adapter.rank)


def scaling(file: AdapterFile, layer: str) -> float:
    """Return the factor of a layer's update, or what adapter_config.json says of single layers."""
    from peft.utils.other import get_pattern_key

    def value(name: str, pattern: str) -> float:
        values = file.config.get(pattern) or {}
        return float(values.get(get_pattern_key(list(values), layer), file.config[name]))

    rank = value("r", "rank_pattern")
    return value("lora_alpha", "alpha_pattern") / (rank**0.5 if file.config.get("use_rslora") else rank)


def doubled(adapter: AdapterSettings) -> tuple[int, float]:
    """Return twice the rank, and the alpha with which the scale of the update stays the same."""
    return 2 * adapter.rank, adapter.alpha * (math.sqrt(2) if adapter.use_rslora else 2)
