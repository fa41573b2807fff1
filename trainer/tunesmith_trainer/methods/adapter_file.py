"""The files of a trained adapter in peft's layout, read a tensor at a time."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.models.linears import is_within
from tunesmith_trainer.models.weights import open_safetensors
from tunesmith_trainer.storage.files import read_json

_PREFIX = "base_model.model."
_AGAIN = "Start a new job with the same spec; if it fails again, report it: the artifact was not written"


def unfaithful(message: str, remedy: str = _AGAIN) -> StageError:
    """Return the error for a result that is not what was trained."""
    return StageError(Reason.PARITY_FAILED, message, remedy)


class AdapterFile:
    """The tensors of an adapter by the name of the layer that they belong to.

    Attributes:
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

    def layers_with(self, part: str) -> list[str]:
        """Return the full names of the layers that have a part, such as `lora_A`."""
        ends = (f".{part}.weight", f".{part}")
        found = {name.removesuffix(end) for name in self._names for end in ends if name.endswith(end)}
        return sorted(name.removeprefix(_PREFIX) for name in found)

    def get(self, layer: str, part: str) -> torch.Tensor:
        """Return a part of a layer's adapter, float32.

        Raises:
            StageError: The adapter has no such tensor, or it is not finite or not fp32.
        """
        names = (f"{_PREFIX}{layer}.{part}.weight", f"{_PREFIX}{layer}.{part}")
        name = next((name for name in names if name in self._names), "")
        if not name:
            raise unfaithful(f"the adapter has no {part} for the layer {layer}")
        return self._checked(name)

    def shared(self, part: str) -> torch.Tensor:
        """Return a tensor that all layers share, float32.

        Raises:
            StageError: As `get`.
        """
        name = f"base_model.{part}"
        if name not in self._names:
            raise unfaithful(f"the adapter has no {part}")
        return self._checked(name)

    @cached_property
    def heads(self) -> list[str]:
        """The names of the base model's tensors that were trained whole beside the adapter."""
        modules = self.config.get("modules_to_save") or []
        names = (name.removeprefix(_PREFIX) for name in self._names)
        return sorted(name for name in names if is_within(name, modules))

    def head(self, name: str) -> torch.Tensor:
        """Return a tensor of `heads`, float32.

        Raises:
            StageError: As `get`.
        """
        return self._checked(f"{_PREFIX}{name}")

    def _checked(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._file.get_tensor(name)
        if tensor.dtype != torch.float32:
            raise unfaithful(f"the adapter's {name} is {str(tensor.dtype).removeprefix('torch.')}, not float32")
        if not torch.isfinite(tensor).all():
            raise unfaithful(f"the adapter's {name} has values that are not finite")
        return tensor
