"""The interface of a training method. The stages use it and never check for a method by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunesmith_api.methods import METHODS, MethodInfo
from tunesmith_api.resolve import Resolved
from tunesmith_api.spec import AdapterSettings, TrainingJobSpec

DType = Literal["float32", "bfloat16"]

START = "tunesmith_start"
"""Attribute of a model whose adapter begins as a part of the base weights: the file with its matrices."""

HEAD = "modules_to_save"
"""What peft calls modules that are trained whole beside an adapter; a part of the names of their tensors."""


def not_quantized(folder: Path, dtype: str) -> Any:  # noqa: ANN401
    """Stand in for `load_quantized` where no weights are quantized."""
    raise NotImplementedError(f"{folder}: quantized weights were not expected")


@dataclass(frozen=True)
class MergeInputs:
    """The inputs of merging, each loaded only when it is called.

    Attributes:
        adapter: The adapter's settings; None where the method trains none.
        base_folder: Folder of the base model.
        load: Returns the model in a folder, ready for inference; see `Task.load_model`. The method may change it.
        outputs: Returns what a model computes for a few rows, float32 arrays, for comparing models.
        step: Reports a step that takes long enough to be shown.
        load_quantized: Returns a base model with quantized weights; see `Task.load_quantized`.
        heads: Returns the names of the modules of a model that were trained whole beside the adapter.
        trained: Returns the model that was trained, if its base is stored otherwise than the one in `base_folder`.
    """

    adapter: AdapterSettings | None
    base_folder: Path
    load: Callable[[Path], Any]
    outputs: Callable[[Any], Sequence[Any]]
    step: Callable[[str], None]
    load_quantized: Callable[[Path, str], Any] = not_quantized
    heads: Callable[[Any], Sequence[str]] = lambda model: ()
    trained: Callable[[], Any] | None = None


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

    def check_layers(self, layers: Mapping[str, tuple[int, int]], adapter: AdapterSettings | None) -> None:  # noqa: B027
        """Fail if what the spec asks for does not fit the base model's linear layers. Called before training.

        Args:
            layers: Inputs and outputs of the linear layers by their full names, without the output layer.
            adapter: The adapter's settings; None where the method trains none.

        Raises:
            StageError: INVALID_SPEC, with what to write instead.
        """

    def write_start(  # noqa: B027
        self,
        base: Path,
        layers: Mapping[str, tuple[int, int]],
        adapter: AdapterSettings | None,
        file: Path,
        advance: Callable[[Iterable[str]], Iterable[str]],
    ) -> None:
        """Write what training begins with besides the base model.

        It is computed once, in `prepare`: every process and every attempt then begins with the same bits.

        Args:
            base: Folder of the base model.
            layers: Its linear layers, as in `check_layers`.
            adapter: The adapter's settings; None where the method trains none.
            file: The file to write.
            advance: Yields the layers that it is given, and reports progress.
        """

    def load_start(self, model: Any, adapter: AdapterSettings | None, file: Path) -> None:  # noqa: ANN401, B027
        """Let training begin with what `write_start` wrote, if anything.

        Args:
            model: The model from `make_trainable`.
            adapter: The adapter's settings; None where the method trains none.
            file: The file.
        """

    @abstractmethod
    def make_trainable(
        self,
        model: Any,  # noqa: ANN401 - a transformers model
        spec: TrainingJobSpec,
        resolved: Resolved,
        adapter_task_type: str | None,
        heads: Sequence[str] = (),
    ) -> Any:  # noqa: ANN401
        """Return the model to train, built from the base model.

        Args:
            model: The base model, as `load_dtype` says.
            spec: What to train.
            resolved: Values of the run.
            adapter_task_type: The task's name in peft.
            heads: Names of modules that are trained whole beside an adapter.

        Raises:
            StageError: The spec names layers that the model does not have.
        """

    def trained_names(self, names: Iterable[str]) -> list[str]:
        """Return those of a model's parameters that must be trained, whether or not they can be.

        Args:
            names: Names of all parameters of the model to train.
        """
        return []

    def late_names(self, names: Iterable[str]) -> list[str]:
        """Return those of the trained parameters whose gradient is zero until others have moved.

        Args:
            names: Names of trained parameters.
        """
        return []

    def total_parameters(self, model: Any) -> int:  # noqa: ANN401
        """Return the number of parameters of the model to train, trained or not."""
        from transformers.trainer_pt_utils import get_model_param_count

        return int(get_model_param_count(model))

    @abstractmethod
    def save(self, model: Any, weights: Iterator[tuple[str, Any]], base: Path, folder: Path) -> None:  # noqa: ANN401
        """Write the trained weights to a folder.

        Args:
            model: The model that was trained. The values of its weights may be with other processes.
            weights: The weights by name, one after the other, each of which may be gone when the next one comes. Only
                the trained ones when `info.trains_adapter`. All must be asked for.
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

    def served_base(self, final: Path, folder: Path, inputs: MergeInputs) -> Path:
        """Return the folder of the base model that an adapter is served on; fail if it is not the job's adapter.

        Args:
            final: The folder that `save` wrote.
            folder: The folder to make if the base model is another one than that in `inputs.base_folder`; without a
                tokenizer.
            inputs: The inputs of merging.

        Raises:
            StageError: The adapter is not the one that the spec asks for.
        """
        raise NotImplementedError

    def as_trained(self, final: Path, base: Path, load: Callable[[Path, str], Any], dtype: str) -> Any:  # noqa: ANN401
        """Return the model that was trained, if its base weights are quantized; only then is it another one."""
        raise NotImplementedError

    def artifact_parts(self, final: Path, folder: Path, source: Mapping[str, Any]) -> dict[str, Path]:
        """Return the files and folders that the artifact has besides the exports, by their paths in the artifact.

        Args:
            final: The folder that `save` wrote.
            folder: A folder for temporary files.
            source: `uri` and `revision` of the base model.
        """
        return {}
