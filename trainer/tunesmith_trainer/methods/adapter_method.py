"""Training an adapter beside frozen weights: LoRA and its relatives, each a kind of adapter."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith_api.resolve import Resolved
from tunesmith_api.spec import AdapterSettings, TrainingJobSpec
from tunesmith_trainer.methods.base import HEAD, START, DType, MergeInputs, Method
from tunesmith_trainer.methods.targets import check_targets, peft_targets, targeted
from tunesmith_trainer.methods.trained_heads import widen_heads
from tunesmith_trainer.models.linears import is_within, linear_layers
from tunesmith_trainer.storage.files import link_tree, read_json, write_json

if TYPE_CHECKING:
    from tunesmith_trainer.methods.kinds.base import AdapterKind


class AdapterMethod(Method):
    """Trains an adapter of a kind; the result is the adapter in peft's layout."""

    def __init__(self, name: str, kind: str) -> None:
        """Define a method.

        Args:
            name: Value of `spec.method`.
            kind: Name of its kind of adapter, as in `methods.kinds.registry`.
        """
        self.name = name
        self._kind = kind

    @cached_property
    def kind(self) -> AdapterKind:
        """What is trained, and how it is merged."""
        from tunesmith_trainer.methods.kinds.registry import KINDS

        return KINDS[self._kind]

    def load_dtype(self, precision: str) -> DType:
        """Return the run's precision: fp32 has no benefit for frozen weights that are computed in bf16."""
        return "bfloat16" if precision == "bf16" else "float32"

    def make_trainable(
        self,
        model: Any,  # noqa: ANN401
        spec: TrainingJobSpec,
        resolved: Resolved,
        adapter_task_type: str | None,
        heads: Sequence[str] = (),
    ) -> Any:  # noqa: ANN401
        """Return the model with a new adapter; its base is frozen.

        Raises:
            StageError: The adapter does not fit the model's layers.
        """
        from peft import get_peft_model
        from transformers.trainer_utils import set_seed

        adapter = self._settings(resolved.adapter)
        set_seed(spec.training.seed)
        layers = linear_layers(model, heads)
        self.check_layers(layers, adapter)
        modules = [name for name, _ in model.named_modules()]
        targets = peft_targets(adapter.target_modules, layers, modules, heads)
        config = self.kind.peft_config(adapter, targets, adapter_task_type)
        if heads:
            config.modules_to_save = list(heads)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Invalid `oft_block_size`")  # it takes the nearest, as told
            model = get_peft_model(model, config)
        if heads:
            model.peft_config["default"].modules_to_save = list(heads)  # without what peft adds for any family
        self.kind.prepare(model)
        widen_heads(model)
        if resolved.gradient_checkpointing:
            model.enable_input_require_grads()
        return model

    def check_layers(self, layers: Mapping[str, tuple[int, int]], adapter: AdapterSettings | None) -> None:
        """Fail if the adapter does not fit the model's linear layers."""
        adapter = self._settings(adapter)
        check_targets(adapter.target_modules, layers)
        chosen = targeted(layers, adapter.target_modules)
        self.kind.check_layers({name: layers[name] for name in chosen}, adapter)

    def write_start(
        self,
        base: Path,
        layers: Mapping[str, tuple[int, int]],
        adapter: AdapterSettings | None,
        file: Path,
        advance: Callable[[Iterable[str]], Iterable[str]],
    ) -> None:
        """Write the matrices that the adapter begins with, if they are a part of the base weights."""
        if adapter is None or not adapter.begins_with_base:
            return
        from tunesmith_trainer.methods.start import write_start

        write_start(base, advance(targeted(layers, adapter.target_modules)), adapter, file)

    def load_start(self, model: Any, adapter: AdapterSettings | None, file: Path) -> None:  # noqa: ANN401
        """Let the adapter begin with the matrices in a file, if they are a part of the base weights."""
        if adapter is None or not adapter.begins_with_base:
            return
        from tunesmith_trainer.methods.start import load_start

        load_start(model, file)

    def trained_names(self, names: Iterable[str]) -> list[str]:
        """Return the names of the parameters of the adapter and the heads, whatever has frozen some of them."""
        return [name for name in names if any(f".{part}." in name for part in (*self.kind.parts, HEAD))]

    def late_names(self, names: Iterable[str]) -> list[str]:
        """Return the names of the parameters whose gradient is zero until others have moved."""
        return [name for name in names if any(f".{part}." in name for part in self.kind.late)]

    def total_parameters(self, model: Any) -> int:  # noqa: ANN401
        """Return the number of parameters. peft keeps a head as it was beside the one that is trained."""
        kept = [weight for name, weight in model.named_parameters() if ".original_module." in name]
        return super().total_parameters(model) - sum(getattr(weight, "ds_numel", weight.numel()) for weight in kept)

    def _settings(self, adapter: AdapterSettings | None) -> AdapterSettings:
        return adapter or AdapterSettings(rank=self.info.default_rank, alpha=self.info.default_alpha)

    def save(self, model: Any, weights: Iterator[tuple[str, Any]], base: Path, folder: Path) -> None:  # noqa: ANN401
        """Write the adapter."""
        shared = tuple(f"base_model.{part}." for part in self.kind.shared)  # the layers name it once more
        held = {n: weight.clone() for n, weight in weights if self.trained_names([n]) or n.startswith(shared)}
        model.peft_config["default"].base_model_name_or_path = str(base)
        model.save_pretrained(folder, state_dict=held, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)
        if start := getattr(model, START, None):
            from tunesmith_trainer.methods.start import without_start

            without_start(folder, start)
        _sort_targets(folder / "adapter_config.json")

    def write_tuned(self, final: Path, folder: Path, inputs: MergeInputs) -> dict[str, Any]:
        """Merge the adapter into the base model's files, and check what was written."""
        from tunesmith_trainer.methods.adapter import AdapterWeights
        from tunesmith_trainer.methods.merge import merge_files
        from tunesmith_trainer.methods.merge_check import MergeCheck
        from tunesmith_trainer.methods.verify import verify_merge
        from tunesmith_trainer.models.loading import save_configuration, tensor_sources
        from tunesmith_trainer.models.memory import give_back

        inputs.step("checking the adapter")
        settings, weights, base = self._settings(inputs.adapter), AdapterWeights(final), inputs.load(inputs.base_folder)
        self._verify(final, base, inputs)
        names = tensor_sources(base, inputs.base_folder)
        check, trained = MergeCheck(base, weights, final, inputs.outputs), {}
        save_configuration(base, folder)
        del base
        give_back()
        if inputs.trained is not None:
            inputs.step("comparing with the model that was trained")
            trained = {"trainedLogitDifference": check.trained(inputs.trained())}
            give_back()
        inputs.step("merging the adapter")
        numbers = merge_files(inputs.base_folder, weights, names, folder)
        give_back()
        inputs.step("checking the merged weights")
        verify_merge(inputs.base_folder, final, folder, settings, names)
        give_back()
        stored = check.stored(inputs.load(folder), numbers["weights"])
        give_back()
        differences = {"mergedLogitDifference": check.adapted_difference, "storedLogitDifference": stored}
        return {**numbers, **trained, **differences}

    def _verify(self, final: Path, base: Any, inputs: MergeInputs) -> None:  # noqa: ANN401
        """Fail if an adapter is not the one that the spec asks for."""
        from tunesmith_trainer.methods.verify import verify_adapter

        heads = inputs.heads(base)
        tensors = [name for name in base.state_dict() if is_within(name, heads)]
        verify_adapter(final, self.kind, self._settings(inputs.adapter), list(linear_layers(base, heads)), tensors)

    def served_base(self, final: Path, folder: Path, inputs: MergeInputs) -> Path:
        """Return the folder of the base model, which stays as it is."""
        from tunesmith_trainer.models.memory import give_back

        inputs.step("checking the adapter")
        self._verify(final, inputs.load(inputs.base_folder), inputs)
        give_back()
        return inputs.base_folder

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


def _sort_targets(path: Path) -> None:
    """Sort the names of the layers and heads, as peft's order differs between runs."""
    settings = json.loads(path.read_text())
    for field in ("target_modules", "feedforward_modules", "modules_to_save"):
        if isinstance(settings.get(field), list):
            settings[field] = sorted(set(settings[field]))
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
