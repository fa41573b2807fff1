"""DeepSpeed: keeps it from compiling extensions, and gathers its weights on one process."""

from __future__ import annotations

from typing import Any


def compile_nothing() -> None:
    """Keep DeepSpeed from building its extension for shared memory, which it does on a CPU if it finds a compiler.

    Remove when DeepSpeed has a setting for it.
    """
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def gather_weights(engine: Any, *, exclude_frozen: bool) -> dict[str, Any]:  # noqa: ANN401 - a DeepSpeedEngine
    """Return the weights of a ZeRO 3 run by name, on the first process; {} on the others. All take part.

    The public `save_16bit_model` writes a pickle instead of returning them.

    Args:
        engine: DeepSpeed's engine.
        exclude_frozen: Whether weights that are not trained are left out.
    """
    gathered = engine._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=exclude_frozen)
    return dict(gathered or {})
