"""Merges an adapter into its base model, and checks that merging does not change the model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tunesmith_api.failures import Reason, StageError

log = logging.getLogger(__name__)

# In fp32, merged and adapted logits have never differed by more than 2e-5. A wrong merge differs by far more.
TOLERANCE = 1e-4


def require_adapter_file(adapter: Path) -> None:
    """Fail if an adapter has no safetensors: peft would unpickle an adapter_model.bin instead.

    Raises:
        StageError: EXPORT_FAILED.
    """
    if not (adapter / "adapter_model.safetensors").is_file():
        raise StageError(
            Reason.EXPORT_FAILED,
            f"{adapter}: there is no adapter_model.safetensors",
            "Run the job again in a new work folder",
        )


def merge_adapter(base: Any, adapter: Path, rows: Sequence[Sequence[int]]) -> Any:  # noqa: ANN401
    """Merge a LoRA or DoRA adapter into its base.

    Args:
        base: The base model in fp32; it is changed into the result.
        adapter: Folder of the PEFT adapter.
        rows: Token ids of a few rows, on which the logits before and after merging are compared.

    Returns:
        The merged transformers model.

    Raises:
        StageError: The adapter cannot be read, or the merged model's logits differ.
    """
    from peft import PeftModel

    require_adapter_file(adapter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about peft's use of transformers, nothing for users
        adapted = PeftModel.from_pretrained(base, adapter, is_trainable=False).eval()
    before = [_logits(adapted, row) for row in rows]
    merged = adapted.merge_and_unload(safe_merge=True).eval()
    for row, expected in zip(rows, before, strict=True):
        found = _logits(merged, row)
        difference = float((found - expected).abs().max())
        bound = TOLERANCE * max(1.0, float(expected.abs().max()))
        if not difference <= bound:
            raise StageError(
                Reason.EXPORT_FAILED,
                f"merging the adapter changes the model: a logit is off by {difference:.3g}, more than {bound:.3g}",
                "Train with method: full, or with a lower learning rate, at which the weights stay moderate",
            )
    log.info("merged the adapter; logits equal on %d rows", len(before))
    return merged


@torch.inference_mode()
def _logits(model: Any, row: Sequence[int]) -> torch.Tensor:  # noqa: ANN401
    """Return float32 [tokens, vocabulary]."""
    return model(input_ids=torch.tensor([list(row)], device=model.device)).logits[0].float()
