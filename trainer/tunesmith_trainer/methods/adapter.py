"""A trained adapter in peft's layout: its tensors, and how they change a weight."""

from __future__ import annotations

from pathlib import Path

import torch

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.models.weights import open_safetensors
from tunesmith_trainer.storage.files import read_json

_PREFIX = "base_model.model."
_AGAIN = "Start a new job with the same spec; if it fails again, report it: the artifact was not written"


def unfaithful(message: str, remedy: str = _AGAIN) -> StageError:
    """Return the error for a result that is not what was trained."""
    return StageError(Reason.PARITY_FAILED, message, remedy)


class AdapterWeights:
    """The tensors of a trained adapter by the name of the layer that they belong to.

    Attributes:
        layers: Full names of the layers that have an adapter.
        config: The content of adapter_config.json.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        if not path.is_file():  # peft would unpickle an adapter_model.bin instead
            raise StageError(
                Reason.EXPORT_FAILED,
                f"{folder}: there is no adapter_model.safetensors",
                "Run the job again in a new work folder",
            )
        self._file = open_safetensors(path)
        self._names = set(self._file.keys())
        self.config = read_json(folder / "adapter_config.json") or {}
        self.layers = sorted(
            {name.removeprefix(_PREFIX).removesuffix(".lora_A.weight") for name in self._names if ".lora_A." in name}
        )

    @property
    def is_decomposed(self) -> bool:
        """Whether it is a DoRA adapter."""
        return bool(self.config.get("use_dora"))

    def get(self, layer: str, part: str) -> torch.Tensor:
        """Return a tensor of a layer in fp32: `lora_A` [rank, in], `lora_B` [out, rank] or the magnitudes [out].

        Raises:
            StageError: The adapter has no such tensor, or it is not finite or not fp32.
        """
        name = next(
            (n for n in (f"{_PREFIX}{layer}.{part}.weight", f"{_PREFIX}{layer}.{part}") if n in self._names), ""
        )
        if not name:
            raise unfaithful(f"the adapter has no {part} for the layer {layer}")
        tensor = self._file.get_tensor(name)
        if tensor.dtype != torch.float32:
            raise unfaithful(f"the adapter's {name} is {str(tensor.dtype).removeprefix('torch.')}, not float32")
        if not torch.isfinite(tensor).all():
            raise unfaithful(f"the adapter's {name} has values that are not finite")
        return tensor

    def scaling(self, layer: str) -> float:
        """Return the factor of a layer's update: alpha / rank, or what adapter_config.json says of single layers."""
        from peft.utils.other import get_pattern_key

        def value(name: str, pattern: str) -> float:
            values = self.config.get(pattern) or {}
            return float(values.get(get_pattern_key(list(values), layer), self.config[name]))

        rank = value("r", "rank_pattern")
        return value("lora_alpha", "alpha_pattern") / (rank**0.5 if self.config.get("use_rslora") else rank)

    def merged(self, layer: str, weight: torch.Tensor) -> torch.Tensor:
        """Return a layer's merged weight, float32 [out, in], by the same operations as peft's.

        Args:
            layer: The layer's full name.
            weight: The base model's weight, float32 [out, in].
        """
        update = (self.get(layer, "lora_B") @ self.get(layer, "lora_A")).mul_(self.scaling(layer)).to(weight.device)
        update += weight
        if self.is_decomposed:
            magnitudes = self.get(layer, "lora_magnitude_vector").to(weight.device)
            update *= (magnitudes / torch.linalg.norm(update, dim=1)).view(-1, 1)
        return update
