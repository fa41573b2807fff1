"""Which of ONNX Runtime's two ways to compute attention on the CPU is used.

With all scores of a run at once, chunks of prompts take about a tenth less time than in blocks, and steps for answers
the same (tests/bench/attention.py). The scores take memory for as many tokens as a row can hold.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_WITHOUT_BLOCKS = "ORT_GQA_DISABLE_FLASH_ATTENTION"
_MOST_BYTES = 1 << 30


@contextmanager
def attention_for(heads: int, tokens: int, context: int) -> Iterator[None]:
    """Choose how sessions that are opened meanwhile compute attention, unless the environment says it.

    Args:
        heads: Heads of a layer.
        tokens: The most new tokens of a run, of all rows together.
        context: The most tokens of a row.
    """
    if _WITHOUT_BLOCKS in os.environ:
        yield
        return
    # A session reads it from the environment when it is opened, and from nowhere else.
    os.environ[_WITHOUT_BLOCKS] = str(int(4 * heads * tokens * context <= _MOST_BYTES))
    try:
        yield
    finally:
        del os.environ[_WITHOUT_BLOCKS]
