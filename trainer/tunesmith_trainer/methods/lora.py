"""Training a low-rank adapter beside frozen weights: LoRA, and its variant DoRA."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.resolve import Resolved
from tunesmith_api.spec import AdapterSpec, TrainingJobSpec
from tunesmith_trainer.methods.base import DType, MergeInputs, Method
from tunesmith_trainer.storage.files import link_tree, read_json, write_json


class Lora(Method):
    """Trains a LoRA adapter; the result is the adapter in peft's layout.

    Attributes:
        is_decomposed: Whether the magnitudes of the weights are trained separately from their directions (DoRA).
    """

    name = "lora"
    is_decomposed = False

    def load_dtype(self, precision: str) -> DType:
        """Return the run's precision: fp32 has no benefit for frozen weights that are computed in bf16."""
        return "bfloat16" if precision == "bf16" else "float32"

    def make_trainable(
        self,
        model: Any,  # noqa: ANN401
        spec: TrainingJobSpec,
        resolved: Resolved,
        adapter_task_type: str | None,
    ) -> Any:  # noqa: ANN401
        """Return the model with a new adapter; its base is frozen.

        Raises:
            StageError: `targetModules` names a layer that does not exist.
        """
        from peft import LoraConfig, get_peft_model
        from transformers.trainer_utils import set_seed

        adapter = resolved.adapter or AdapterSpec()
        targets: Any = "all-linear"
        set_seed(spec.training.seed)
        if adapter.target_modules is not None:
            check_targets(adapter.target_modules, linear_layers(model))
            targets = sorted(adapter.target_modules)
        config = LoraConfig(
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            lora_dropout=adapter.dropout,
            target_modules=targets,
            use_dora=self.is_decomposed,
            bias="none",
            task_type=adapter_task_type,
        )
        model = get_peft_model(model, config)
        if resolved.gradient_checkpointing:
            model.enable_input_require_grads()
        return model

    def save(self, model: Any, weights: Iterator[tuple[str, Any]], base: Path, folder: Path) -> None:  # noqa: ANN401
        """Write the adapter."""
        held = {name: weight.clone() for name, weight in weights}
        model.peft_config["default"].base_model_name_or_path = str(base)
        model.save_pretrained(folder, state_dict=held, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)
        _sort_targets(folder / "adapter_config.json")

    def write_tuned(self, final: Path, folder: Path, inputs: MergeInputs) -> dict[str, Any]:
        """Merge the adapter into the base model's files, and check what was written."""
        from tunesmith_trainer.methods.adapter import AdapterWeights
        from tunesmith_trainer.methods.merge import merge_files
        from tunesmith_trainer.methods.merge_check import MergeCheck
        from tunesmith_trainer.methods.verify import verify_adapter, verify_merge
        from tunesmith_trainer.models.loading import save_configuration, tensor_sources
        from tunesmith_trainer.models.memory import give_back

        inputs.step("checking the adapter")
        spec, weights, base = inputs.adapter or AdapterSpec(), AdapterWeights(final), inputs.load(inputs.base_folder)
        verify_adapter(final, spec, linear_layers(base), decomposed=self.is_decomposed)
        names = tensor_sources(base, inputs.base_folder)
        check = MergeCheck(base, weights, final, inputs.rows())
        save_configuration(base, folder)
        del base
        give_back()
        inputs.step("merging the adapter")
        numbers = merge_files(inputs.base_folder, weights, names, folder)
        give_back()
        inputs.step("checking the merged weights")
        verify_merge(inputs.base_folder, final, folder, spec, names, decomposed=self.is_decomposed)
        give_back()
        stored = check.stored(inputs.load(folder), numbers["weights"])
        give_back()
        return {**numbers, "mergedLogitDifference": check.adapted_difference, "storedLogitDifference": stored}

    def artifact_parts(self, final: Path, folder: Path, source: Mapping[str, Any]) -> dict[str, Path]:
        """Return the adapter. It names its base model by URI instead of by a path in this work folder."""
        adapter = folder / "adapter"
        link_tree(final / "adapter_model.safetensors", adapter / "adapter_model.safetensors")
        settings = read_json(final / "adapter_config.json")
        uri = source.get("uri")
        settings["base_model_name_or_path"] = uri.removeprefix("hf://") if uri else None
        settings["revision"] = source.get("revision")
        write_json(adapter / "adapter_config.json", settings)
        return {"adapter": adapter}


def linear_layers(model: Any) -> list[str]:  # noqa: ANN401
    """Return the full names of the linear layers that can have an adapter: all but the output layer."""
    import torch

    output = model.get_output_embeddings()
    return [
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module is not output
    ]


def check_targets(targets: tuple[str, ...], layers: list[str]) -> None:
    """Raise if a target is not the name, or the end of the name, of any layer.

    Args:
        targets: `spec.adapter.targetModules`.
        layers: Full names of the linear layers.
    """
    wrong = [t for t in targets if not any(name == t or name.endswith(f".{t}") for name in layers)]
    if wrong:
        known = sorted({name.rsplit(".", 1)[-1] for name in layers})
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.adapter.targetModules: the model has no linear layer {', '.join(wrong)}",
            f"Write some of {', '.join(known)}, or leave targetModules out for all of them",
        )


def _sort_targets(path: Path) -> None:
    """Sort the names of the layers, as peft's order differs between runs."""
    settings = json.loads(path.read_text())
    if isinstance(settings.get("target_modules"), list):
        settings["target_modules"].sort()
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
