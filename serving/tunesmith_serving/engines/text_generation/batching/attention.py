"""Which of ONNX Runtime's two ways to compute attention on the CPU is used.

With all scores of a run at once, chunks of prompts take about a tenth less time than in blocks, and steps for answers
the same (tests/bench/attention.py). The scores take memory for as many tokens as a row can hold.
"""

import os

_WITHOUT_BLOCKS = "ORT_GQA_DISABLE_FLASH_ATTENTION"
_GIVEN = _WITHOUT_BLOCKS in os.environ
_MOST_BYTES = 1 << 30


def choose_attention(heads: int, tokens: int, context: int) -> None:
    """Choose how sessions that are opened from now on compute attention, unless the environment says it.

    Args:
        heads: Heads of a layer.
        tokens: The most new tokens of a run, of all rows together.
        context: The most tokens of a row.
    """
    if not _GIVEN:  # ONNX Runtime reads it from the environment only
        os.environ[_WITHOUT_BLOCKS] = str(int(4 * heads * tokens * context <= _MOST_BYTES))
