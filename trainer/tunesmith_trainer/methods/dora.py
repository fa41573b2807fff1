"""DoRA: LoRA that trains the magnitudes of the weights separately from their directions."""

from __future__ import annotations

from tunesmith_trainer.methods.lora import Lora


class Dora(Lora):
    """Trains a DoRA adapter."""

    name = "dora"
    is_decomposed = True
