"""The interface of a training method. The stages use it and never check for a method by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunesmith_api.methods import METHODS, MethodInfo
from tunesmith_api.resolve import Resolved
from tunesmith_api.spec import AdapterSpec, TrainingJobSpec

DType = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class MergeInputs:
    """The inputs of merging, each loaded only when it is called.

    Attributes:
        adapter: The adapter's settings; None where the method trains none.
        base_folder: Folder of the base model.
        load: Returns the model in a folder, ready for inference; see `Task.load_model`. The method may change it.
        rows: Returns the token ids of a few rows, for comparing models.
        step: Reports a step that takes long enough to be shown.
    """

    adapter: AdapterSpec | None
    base_folder: Path
    load: Callable[[Path], Any]
    rows: Callable[[], list[list[int]]]
    step: Callable[[str], None]


class Method(ABC):
    """A method of training. Its modules import torch only when they are called.

    Attributes:
        name: Value of `spec.method`.
    """

    name: str

    @property
    def info(self) -> MethodInfo:
        """The facts about it."""
        return METHODS[self.name]

    def load_dtype(self, precision: str) -> DType:
        """Return the number format that the base model is loaded in. Trained weights are always kept in fp32.

        Args:
            precision: The run's precision, fp32 or bf16.
        """
        return "float32"

    @abstractmethod
    def make_trainable(
        self,
        model: Any,  # noqa: ANN401 - a transformers model
        spec: TrainingJobSpec,
        resolved: Resolved,
        adapter_task_type: str | None,
    ) -> Any:  # noqa: ANN401
        """Return the model to train, built from the base model.

        Args:
            model: The base model, as `load_dtype` says.
            spec: What to train.
            resolved: Values of the run.
            adapter_task_type: The task's name in peft.

        Raises:
            StageError: The spec names layers that the model does not have.
        """

    def total_parameters(self, model: Any) -> int:  # noqa: ANN401
        """Return the number of parameters of the model to train, trained or not."""
        from transformers.trainer_pt_utils import get_model_param_count

        return int(get_model_param_count(model))

    @abstractmethod
    def save(self, model: Any, weights: dict[str, Any] | None, base: Path, folder: Path) -> None:  # noqa: ANN401
        """Write the trained weights to a folder.

        Args:
            model: The model that was trained.
            weights: The weights by name, gathered from all processes; None where the model itself holds them. Only
                the trained ones when `info.trains_adapter`.
            base: Folder of the base model.
            folder: The folder to make.
        """

    @abstractmethod
    def write_tuned(self, final: Path, folder: Path, inputs: MergeInputs) -> dict[str, Any]:
        """Write the tuned model to a folder in the transformers layout, without its tokenizer.

        Args:
            final: The folder that `save` wrote.
            folder: The folder to make.
            inputs: The inputs of merging.

        Returns:
            What merging has changed besides, for `parity.merge` in the manifest; empty if nothing was merged.
        """

    def artifact_parts(self, final: Path, folder: Path, source: Mapping[str, Any]) -> dict[str, Path]:
        """Return the files and folders that the artifact has besides the exports, by their paths in the artifact.

        Args:
            final: The folder that `save` wrote.
            folder: A folder for temporary files.
            source: `uri` and `revision` of the base model.
        """
        return {}
