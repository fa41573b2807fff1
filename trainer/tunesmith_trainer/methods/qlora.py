"""QLoRA: LoRA beside weights in nf4."""

from __future__ import annotations

from tunesmith_trainer.methods.quantized import QuantizedLora


class QLora(QuantizedLora):
    """Trains a LoRA adapter beside quantized weights."""

    name = "qlora"
