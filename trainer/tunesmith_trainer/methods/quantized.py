"""Training an adapter beside a base model whose linear layers are stored in nf4 (QLoRA, arXiv 2305.14314)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunesmith_trainer.methods.lora import Lora
from tunesmith_trainer.storage.files import write_json

QUANTIZATION = "quantization.json"


class QuantizedLora(Lora):
    """Trains an adapter beside quantized weights."""

    def total_parameters(self, model: Any) -> int:  # noqa: ANN401
        """Return the number of parameters, not of the numbers that quantized ones are packed in."""
        from tunesmith_trainer.models.nf4 import packed_away

        return super().total_parameters(model) + packed_away(model)

    def save(self, model: Any, weights: dict[str, Any] | None, base: Path, folder: Path) -> None:  # noqa: ANN401
        """Write the adapter, and what the base model's weights were stored as."""
        digest = model.get_base_model().nf4_digest
        super().save(model, weights, base, folder)
        write_json(folder / QUANTIZATION, {"type": "nf4", "doubleQuantization": True, "digest": digest})
