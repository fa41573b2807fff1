"""accelerate: keeps it from importing DeepSpeed and datasets."""

from __future__ import annotations


def hide_deepspeed() -> None:
    """Let accelerate believe that DeepSpeed is not installed: it imports it wherever it is, which takes seconds.

    Remove when accelerate imports DeepSpeed only for a run that uses it.
    """
    import accelerate.utils.other

    accelerate.utils.other.is_deepspeed_available = lambda: False


def hide_datasets() -> None:
    """Let accelerate believe that datasets is not installed, which it imports where several processes share rows.

    That takes a second. Remove when accelerate imports it only for a data set of its kind.
    """
    import accelerate.data_loader

    accelerate.data_loader.is_datasets_available = lambda: False
