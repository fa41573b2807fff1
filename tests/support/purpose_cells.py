"""The table of purposes and techniques: what is trained in each cell, on what, and what must come of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from support.example_rows import Rows, rows_of
from tunesmith_api.methods import METHODS

PROCESSES = 2  # of the cells under ZeRO

RATE_OF_ADAPTERS = 20.0
"""Defaults are for models of billions of parameters; ones this small learn faster. All adapters by the same factor."""
RATE_OF_WEIGHTS = 1e-3


@dataclass(frozen=True)
class Technique:
    """A column.

    Attributes:
        name: What it is called.
        method: Value of `spec.method`.
        strategy: Value of `spec.distributed.strategy`.
        processes: Processes that train together.
    """

    name: str
    method: str
    strategy: str = "ddp"
    processes: int = 1

    @property
    def rate(self) -> float:
        """The learning rate with which the small models learn."""
        info = METHODS[self.method]
        return float(f"{RATE_OF_ADAPTERS * info.default_learning_rate:.4g}") if info.trains_adapter else RATE_OF_WEIGHTS


TECHNIQUES = (
    Technique("LoRA", "lora"),
    Technique("QLoRA", "qlora"),
    Technique("DoRA", "dora"),
    Technique("OFT", "oft"),
    Technique("full, ZeRO-2", "full", "zero2", PROCESSES),
    Technique("full, ZeRO-3", "full", "zero3", PROCESSES),
)


@dataclass(frozen=True)
class Purpose:
    """A row.

    Attributes:
        name: What it is called.
        example: The example whose data it learns.
        base: The kind of model that it adapts: `decoder`, `encoder` or `translator`.
        task: Value of `spec.task`.
        metric: The metric that must get better.
        margin: By how much, from before to after; of a metric that falls, the share of it that may be left.
        steps: Steps of training.
        spec: Further fields of the spec.
        keep: Which rows of the example are used.
    """

    name: str
    example: str
    base: str
    task: str
    metric: str
    margin: float
    steps: int
    spec: dict[str, Any] = field(default_factory=dict, hash=False)
    keep: Callable[[dict[str, Any]], bool] = field(default=lambda row: True, hash=False)

    def rows(self) -> tuple[Rows, Rows]:
        """Return the rows to train on, and those to evaluate on."""
        train, validation = rows_of(self.example)
        return [row for row in train if self.keep(row)], [row for row in validation if self.keep(row)]

    @property
    def falls(self) -> bool:
        """Whether the metric is better when it is lower."""
        return self.metric in ("perplexity", "evalLoss", "mse")

    def demand(self) -> str:
        """Return what is demanded of the metric, in words."""
        if self.falls:
            return f"{self.metric} at most {self.margin:g} × what it was"
        return f"{self.metric} higher by at least {self.margin:g}"

    def met(self, before: float | None, after: float | None) -> bool:
        """Return whether a metric has become better by the margin; what has no value before counts as 0."""
        if after is None:
            return False
        return after <= self.margin * (before or 0) if self.falls else after >= (before or 0) + self.margin


def _has_modal_verb(row: dict[str, Any]) -> bool:
    """Return whether the verb of a German sentence stands at its end; see support/purpose_bases.py."""
    return any(f" {verb} " in row["translation"]["en"] for verb in ("wants to", "must", "can"))


_GENERATION = "textGeneration"
PURPOSES = (
    Purpose("domain text", "domain-text", "decoder", _GENERATION, "perplexity", 0.7, 60),
    Purpose("chat", "chat", "decoder", _GENERATION, "perplexity", 0.5, 60),
    Purpose("creative text", "creative", "decoder", _GENERATION, "perplexity", 0.5, 60),
    Purpose("preferences", "preferences", "decoder", _GENERATION, "rewardAccuracy", 0.3, 40, {"objective": "dpo"}),
    Purpose("classification", "classification", "encoder", "sequenceClassification", "accuracy", 0.3, 160),
    Purpose("entities", "entities", "encoder", "tokenClassification", "f1", 0.3, 100),
    Purpose("translation", "translation", "translator", "translation", "chrf", 15, 150, keep=_has_modal_verb),
    Purpose("question answering", "question-answering", "encoder", "questionAnswering", "f1", 0.2, 300),
)


@dataclass(frozen=True)
class Cell:
    """A purpose with a technique."""

    purpose: Purpose
    technique: Technique

    @property
    def name(self) -> str:
        """The cell in words."""
        return f"{self.purpose.name}, {self.technique.name}"

    @property
    def base(self) -> str:
        """The kind of model that is adapted: a decoder where the technique needs one and the task takes one."""
        needs_decoder = METHODS[self.technique.method].is_quantized
        takes_decoder = self.purpose.task == "sequenceClassification"
        return "decoder" if needs_decoder and takes_decoder else self.purpose.base

    @property
    def left_out(self) -> str | None:
        """Why the cell is not run; None if it is."""
        if METHODS[self.technique.method].is_quantized and self.base != "decoder":
            return f"needs a decoder: {self.purpose.task} has none"
        return None

    def job(self, model: str) -> dict[str, Any]:
        """Return the spec of the cell's job, without its data.

        Args:
            model: Folder of the base model.
        """
        rate = self.technique.rate * (0.25 if self.purpose.spec.get("objective") == "dpo" else 1)
        return {
            "model": {"uri": model},
            "task": self.purpose.task,
            "method": self.technique.method,
            "training": {
                "maxSteps": self.purpose.steps,
                "learningRate": rate,
                "warmupRatio": 0.1,
                "globalBatchSize": 16,
                "maxLength": 128,
                "precision": "fp32",
            },
            "distributed": {"strategy": self.technique.strategy, "numProcPerNode": self.technique.processes},
            "evaluation": {"maxRows": 40, "maxNewTokens": 32},
            "export": {"precisions": ["fp32"], "parity": {"rows": 8}},
            **self.purpose.spec,
        }


def cells() -> list[Cell]:
    """Return all cells, row by row."""
    return [Cell(purpose, technique) for purpose in PURPOSES for technique in TECHNIQUES]


def one_of_each() -> list[Cell]:
    """Return one cell of each row, such that each column is among them.

    Two processes take the first rows, whose training is short.
    """
    found: list[Cell] = []
    by_processes = sorted(TECHNIQUES, key=lambda technique: -technique.processes)
    for purpose in PURPOSES:
        taken = [cell.technique for cell in found]
        turn = [Cell(purpose, technique) for technique in sorted(by_processes, key=taken.count)]
        if len(found) >= len(TECHNIQUES):
            turn = [cell for cell in turn if cell.technique.processes == 1]
        found.append(next(cell for cell in turn if cell.left_out is None))
    return found
