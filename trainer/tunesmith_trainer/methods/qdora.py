"""QDoRA: DoRA beside weights in nf4."""

from __future__ import annotations

from tunesmith_trainer.methods.quantized import QuantizedLora


class QDora(QuantizedLora):
    """Trains a DoRA adapter beside quantized weights."""

    name = "qdora"
    is_decomposed = True
