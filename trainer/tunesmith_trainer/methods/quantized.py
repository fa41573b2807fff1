"""Training an adapter beside a base model whose linear layers are stored in nf4 (QLoRA, arXiv 2305.14314).

Merged into the original base weights, such an adapter would be another model than the one that was trained. So publish
takes for the base model one with the dequantized weights, which are exactly those that training computed with.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.methods.adapter_method import AdapterMethod
from tunesmith_trainer.methods.base import MergeInputs
from tunesmith_trainer.storage.files import link_tree, read_json, write_json

QUANTIZATION = "quantization.json"
"""Beside the adapter: how the base model's weights were stored in training, with a digest of the quantized ones."""

_REFERENCE = "the base model with its linear weights dequantized from nf4"


class QuantizedAdapter(AdapterMethod):
    """Trains an adapter beside quantized weights."""

    def total_parameters(self, model: Any) -> int:  # noqa: ANN401
        """Return the number of parameters, not of the numbers that quantized ones are packed in."""
        from tunesmith_trainer.models.nf4 import packed_away

        return super().total_parameters(model) + packed_away(model)

    def save(self, model: Any, weights: Iterator[tuple[str, Any]], base: Path, folder: Path) -> None:  # noqa: ANN401
        """Write the adapter, and how the base model's weights were stored."""
        super().save(model, weights, base, folder)
        stored = {"type": "nf4", "blockSize": 64, "doubleQuantization": True}
        write_json(folder / QUANTIZATION, {**stored, "digest": model.get_base_model().nf4_digest})

    def write_tuned(self, final: Path, folder: Path, inputs: MergeInputs) -> dict[str, Any]:
        """Merge the adapter into the dequantized weights, and compare the result with the model that was trained."""
        base = folder.with_name(".base_nf4")
        held = [_write_base(final, base, inputs)]  # quantizing takes longer than anything else here: it is done once

        def trained() -> Any:  # noqa: ANN401
            return _with_adapter(held.pop(), final)

        numbers = super().write_tuned(final, folder, replace(inputs, base_folder=base, trained=trained))
        shutil.rmtree(base)
        return {**numbers, "reference": _REFERENCE}

    def served_base(self, final: Path, folder: Path, inputs: MergeInputs) -> Path:
        """Return the folder of the dequantized base model, the one that the adapter was trained beside."""
        _write_base(final, folder, inputs)
        return super().served_base(final, folder, replace(inputs, base_folder=folder))

    def artifact_parts(self, final: Path, folder: Path, source: Mapping[str, Any]) -> dict[str, Path]:
        """Return the adapter, with how its base was quantized."""
        parts = super().artifact_parts(final, folder, source)
        link_tree(final / QUANTIZATION, parts["adapter"] / QUANTIZATION)
        return parts

    def as_trained(self, final: Path, base: Path, load: Callable[[Path, str], Any], dtype: str) -> Any:  # noqa: ANN401
        """Return the model that was trained: the adapter beside quantized weights, ready for inference on the CPU.

        Args:
            final: The folder that `save` wrote.
            base: Folder of the base model.
            load: `Task.load_quantized`.
            dtype: Number format of the other weights and of the computation.
        """
        return _with_adapter(load(base, dtype), final)


def _write_base(final: Path, folder: Path, inputs: MergeInputs) -> Any:  # noqa: ANN401
    """Write the dequantized base model, and return the quantized one.

    Raises:
        StageError: PARITY_FAILED: it is not the one that training used.
    """
    from tunesmith_trainer.models.nf4_files import write_dequantized

    shutil.rmtree(folder, ignore_errors=True)
    inputs.step("quantizing the base model as in training")
    model = inputs.load_quantized(inputs.base_folder, "float32")
    require_same_weights(final, model.nf4_digest)
    inputs.step("writing the dequantized base model")
    write_dequantized(model, inputs.base_folder, folder)
    return model


def _with_adapter(model: Any, final: Path) -> Any:  # noqa: ANN401
    """Return a model with quantized weights and a trained adapter beside them."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, final, is_trainable=False).eval()


def require_same_weights(final: Path, digest: str) -> None:
    """Fail if quantized weights are not those that training used.

    Args:
        final: The folder of the trained adapter.
        digest: The digest of the quantized weights.

    Raises:
        StageError: PARITY_FAILED.
    """
    expected = (read_json(final / QUANTIZATION) or {}).get("digest")
    if expected != digest:
        raise StageError(
            Reason.PARITY_FAILED,
            f"quantized to nf4, the base model's weights are not those that training used ({digest}, not {expected})",
            "Run publish with the trainer image that has trained, on a machine with the same kind of processor",
        )
