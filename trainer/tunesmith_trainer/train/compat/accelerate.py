"""accelerate: keeps it from importing DeepSpeed."""

from __future__ import annotations


def hide_deepspeed() -> None:
    """Let accelerate believe that DeepSpeed is not installed: it imports it wherever it is, which takes seconds.

    Remove when accelerate imports DeepSpeed only for a run that uses it.
    """
    import accelerate.utils.other

    accelerate.utils.other.is_deepspeed_available = lambda: False
