"""The cells of the matrix of techniques: each method with each strategy and offload, from the registries."""

import json
import typing
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tunesmith_api.choices.spread import Strategy
from tunesmith_api.methods import METHODS
from tunesmith_api.spec import AdapterSpec, DistributedSpec, TrainingJobSpec, TrainingSpec

Settings = dict[str, dict[str, Any]]

STRATEGIES: tuple[str, ...] = typing.get_args(Strategy)

SIZES = {
    "vocab_size": 128,
    "hidden_size": 320,  # a weight of 102,400 values: ZeRO 3 leaves smaller ones whole
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
"""The model that the cells train."""

STEPS, KILLED_AT, CHECKPOINT_STEPS = 6, 5, 2
ROWS = 8  # of a step, in all processes together
PROCESSES = 2


@dataclass(frozen=True)
class Variant:
    """Settings with which a method is another technique.

    Attributes:
        name: What the technique is called.
        method: Value of `spec.method`.
        settings: Fields of the spec, by the name of their part.
        rate: The learning rate that it takes, in times of the method's; docs/methods.md says why.
    """

    name: str
    method: str
    settings: Settings = field(hash=False)
    rate: float = 1.0

    @property
    def exists(self) -> bool:
        """Whether the spec has the fields."""
        parts: dict[str, type[BaseModel]] = {
            "adapter": AdapterSpec,
            "training": TrainingSpec,
            "distributed": DistributedSpec,
        }
        return self.method in METHODS and all(
            name in {f.alias or key for key, f in parts[part].model_fields.items()}
            for part, fields in self.settings.items()
            for name in fields
        )


_VARIANTS = (
    Variant("rsLoRA", "lora", {"adapter": {"useRslora": True}}),
    Variant("PiSSA", "lora", {"adapter": {"initLoraWeights": "pissa"}}, rate=0.1),
    Variant("OLoRA", "lora", {"adapter": {"initLoraWeights": "olora", "alpha": 16}}, rate=0.1),
    Variant("LoRA+", "lora", {"adapter": {"loraplusLrRatio": 16}}, rate=0.5),
    Variant("packing", "full", {"training": {"packing": True}}),
    Variant("gradient checkpointing", "full", {"training": {"gradientCheckpointing": True}}),
)


def variants() -> dict[str, Variant]:
    """Return the variants that the spec can express, by name."""
    return {variant.name: variant for variant in _VARIANTS if variant.exists}


def offloads() -> tuple[str, ...]:
    """Return the values of `distributed.offload`."""
    found = DistributedSpec.model_fields.get("offload")
    return ("none",) if found is None else typing.get_args(found.annotation)


@dataclass(frozen=True)
class Cell:
    """A method, or a variant of one, with a strategy.

    Attributes:
        technique: Name of a method or a variant.
        strategy: Value of `spec.distributed.strategy`.
        offload: Value of `spec.distributed.offload`.
    """

    technique: str
    strategy: str
    offload: str = "none"

    @property
    def name(self) -> str:
        """The cell in words."""
        return f"{self.technique} {self.strategy}" + (f"+{self.offload}" if self.offload != "none" else "")

    @property
    def method(self) -> str:
        """Value of `spec.method`."""
        return variants()[self.technique].method if self.technique in variants() else self.technique

    def spec(self, *, precision: str = "fp32") -> dict[str, Any]:
        """Return what to train. The model and the data are placeholders: the work folder has them prepared."""
        training = {
            "globalBatchSize": ROWS,
            "microBatchSize": 2,
            "maxLength": 64,
            "maxSteps": STEPS,
            "learningRate": 1e-3,
            "warmupRatio": 0.1,
            "checkpoint": {"everySteps": CHECKPOINT_STEPS},
        }
        return self.job("./model", training, precision=precision)

    def job(
        self, model: str, training: dict[str, Any], *, processes: int | None = None, precision: str = "fp32"
    ) -> dict[str, Any]:
        """Return the spec of a job of this cell.

        Args:
            model: URI of the base model.
            training: Fields of `spec.training`; those of the technique are added.
            processes: Processes that train; None where that is not a part of the spec, but what the machine has.
            precision: Numeric precision.
        """
        distributed: dict[str, Any] = {"strategy": self.strategy}
        if processes is not None:
            distributed["numProcPerNode"] = processes
        if self.offload != "none":
            distributed["offload"] = self.offload
        spec: dict[str, Any] = {
            "model": {"uri": model},
            "method": self.method,
            "dataset": {"sources": [{"uri": "./rows.jsonl"}]},
            "training": {**training, "precision": precision},
            "distributed": distributed,
        }
        settings = variants()[self.technique].settings if self.technique in variants() else {}
        for part, fields in settings.items():
            spec[part] = {**spec.get(part, {}), **fields}
        return spec

    def refusal(self) -> str | None:
        """Return why the spec's rules refuse the cell; None if they do not."""
        try:
            TrainingJobSpec.model_validate(self.spec())
        except ValidationError as error:
            return "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        return None

    def key(self) -> str:
        """Return what a result is kept under."""
        return json.dumps(asdict(self), sort_keys=True)


def cells() -> Iterator[Cell]:
    """Yield all cells: each method with each strategy and offload; variants with the first and the last strategy."""
    for method in METHODS:
        for strategy in STRATEGIES:
            for offload in offloads():
                yield Cell(method, strategy, offload)
    for variant in variants():
        for strategy in (STRATEGIES[0], STRATEGIES[-1]):
            yield Cell(variant, strategy)


def write_job(work: Path, base: Path, spec: dict[str, Any], rows: list[Any]) -> None:
    """Make a work folder whose next stage is `train`.

    Args:
        work: The folder; it does not exist yet.
        base: The base model.
        spec: What to train.
        rows: Token ids and masks of the training rows.
    """
    from tunesmith_trainer.data.token_store import TokenStore

    TokenStore.write(work / "prepare" / "data" / "train", rows)
    TokenStore.write(work / "prepare" / "data" / "validation", rows[:4])
    (work / "config.json").write_text(json.dumps({"name": "cell", "spec": spec}))
    marker = {"inputs": "prepared", "model": {"path": str(base.absolute())}, "data": {"trainRows": len(rows)}}
    (work / "prepare" / "stage.json").write_text(json.dumps(marker))
