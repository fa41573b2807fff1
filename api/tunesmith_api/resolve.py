"""Every value that the trainer chooses where the spec leaves it open, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tunesmith_api.choices.speed import PACKS_WELL, PackingFacts, compile_of, packing_of
from tunesmith_api.choices.spread import Strategy, accumulation_reason, checkpointing_of, micro_batch_of, strategy_of
from tunesmith_api.methods import DPO_RATE_SHARE, METHODS, SCRATCH_LEARNING_RATE
from tunesmith_api.spec.adapter import AdapterSettings
from tunesmith_api.spec.job import TrainingJobSpec

Offload = Literal["none", "optimizer", "all"]

_DEFAULT_EPOCHS = 3.0
_CHECKPOINTS = 10  # checkpoints of a run, and evaluations during it, by default
_SET = "set in the spec"
_ADAPTER_FIELDS = {
    "rank": "adapter.rank",
    "alpha": "adapter.alpha",
    "block_size": "adapter.blockSize",
    "use_rslora": "adapter.useRslora",
    "init_lora_weights": "adapter.initLoraWeights",
    "loraplus_lr_ratio": "adapter.loraplusLrRatio",
    "target_modules": "adapter.targetModules",
}
_ALWAYS_SHOWN = ("rank", "alpha", "block_size", "target_modules")


@dataclass(frozen=True)
class Resolved:
    """The values that a run trains with.

    Attributes:
        world_size: Processes that train together.
        train_rows: Rows of the training data.
        global_batch_size: Rows of one optimizer step.
        micro_batch_size: Rows of one forward pass in one process.
        gradient_accumulation_steps: Forward passes of one process in one optimizer step.
        total_steps: Optimizer steps of the whole run.
        epochs: Passes over the training rows that these steps make.
        learning_rate: Peak learning rate.
        warmup_steps: Steps over which the learning rate rises.
        precision: Numeric precision.
        gradient_checkpointing: Whether activations are recomputed in the backward pass.
        packing: Whether rows are laid end to end. `gradient_accumulation_steps` is then the most forward passes of a
            step; how many it takes depends on the lengths of its rows.
        compile: Whether the model's layers are compiled.
        strategy: How training is spread over processes.
        offload: What DeepSpeed keeps outside the GPU's memory.
        nvme_path: The folder that it is kept in; None for the machine's memory.
        checkpoint_steps: Steps between two checkpoints.
        eval_steps: Steps between two evaluations; one follows the last step.
        keeps_best: Whether the weights with the lowest loss on validation rows are published, instead of the last ones.
        adapter: The adapter's settings; None where the method trains none.
        reasons: Why each value, by the field's name in the spec (or a name like one).
    """

    world_size: int
    train_rows: int
    global_batch_size: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    total_steps: int
    epochs: float
    learning_rate: float
    warmup_steps: int
    precision: Literal["fp32", "bf16"]
    gradient_checkpointing: bool
    packing: bool
    compile: bool
    strategy: Strategy
    offload: Offload
    nvme_path: str | None
    checkpoint_steps: int
    eval_steps: int
    keeps_best: bool
    adapter: AdapterSettings | None
    reasons: dict[str, str]

    @property
    def zero_stage(self) -> int | None:
        """The stage of DeepSpeed ZeRO, None for plain torch."""
        return int(self.strategy[-1]) if self.strategy.startswith("zero") else None

    def to_status(self) -> dict[str, dict[str, Any]]:
        """Return `{field: {value, reason}}` as it stands in a status's `resolved`."""
        values: dict[str, Any] = {
            "processes": self.world_size,
            "totalSteps": self.total_steps,
            "epochs": self.epochs,
            "learningRate": self.learning_rate,
            "warmupSteps": self.warmup_steps,
            "microBatchSize": self.micro_batch_size,
            "gradientAccumulationSteps": self.gradient_accumulation_steps,
            "precision": self.precision,
            "gradientCheckpointing": self.gradient_checkpointing,
            "packing": self.packing,
            "compile": self.compile,
            "strategy": self.strategy,
            "checkpoint.everySteps": self.checkpoint_steps,
            "evalSteps": self.eval_steps,
            "loadBestModelAtEnd": self.keeps_best,
        }
        if self.offload != "none":
            values["offload"] = self.offload
        if self.adapter is not None:
            shown = {**vars(self.adapter), "target_modules": list(self.adapter.target_modules or ["all linear layers"])}
            values |= {path: shown[field] for field, path in _ADAPTER_FIELDS.items() if path in self.reasons}
        return {name: {"value": value, "reason": self.reasons[name]} for name, value in values.items()}


def resolve(
    spec: TrainingJobSpec,
    world_size: int,
    train_rows: int,
    has_bf16: bool,
    plan: Mapping[str, Any] | None = None,
    facts: PackingFacts = PACKS_WELL,
) -> Resolved:
    """Return all values of a run.

    Args:
        spec: What to train.
        world_size: Processes that train together, over all machines.
        train_rows: Rows of the training data, at least 1.
        has_bf16: Whether there is a GPU that computes in bf16.
        plan: What `prepare` has planned, as in a status's `plan`; it decides what the spec leaves open. Without one
            nothing is known of the machine's memory. Of a plan for another number of processes the strategy is kept,
            as checkpoints are written by it; the micro-batch is at most the planned one.
        facts: What the model tells of packing.

    Raises:
        StageError: The spec's batch sizes do not go with the number of processes, or its packing with the model.
    """
    training = spec.training
    plan = plan or {}
    reasons: dict[str, str] = {"processes": _processes_reason(spec, world_size)}
    micro, reasons["microBatchSize"] = micro_batch_of(spec, world_size, plan)
    share = training.global_batch_size // world_size
    packing, reasons["packing"] = packing_of(spec, has_bf16, facts)
    at_most = "at most: " if packing else ""
    reasons["gradientAccumulationSteps"] = (
        f"{at_most}{accumulation_reason(training.global_batch_size, world_size, micro)}"
    )
    steps, reasons["totalSteps"] = _total_steps(spec, train_rows)
    epochs = round(steps * training.global_batch_size / train_rows, 4)
    reasons["epochs"] = f"{steps} steps of {training.global_batch_size} rows over {train_rows} rows"
    rate, reasons["learningRate"] = _learning_rate(spec)
    reasons["warmupSteps"] = f"warmupRatio {training.warmup_ratio:g} of {steps} steps"
    precision, reasons["precision"] = _precision(spec, has_bf16)
    strategy, reasons["strategy"] = strategy_of(spec, world_size, plan)
    reasons["offload"] = _SET
    checkpointing, reasons["gradientCheckpointing"] = checkpointing_of(spec, plan)
    compiled, reasons["compile"] = compile_of(spec, strategy)
    every = training.checkpoint.every_steps
    reasons["checkpoint.everySteps"] = _SET if every else f"a tenth of {steps} steps"
    reasons["evalSteps"] = _SET if training.eval_steps else f"a tenth of {steps} steps"
    reasons["loadBestModelAtEnd"] = _best_reason(spec)
    reasons |= _adapter_reasons(spec)
    return Resolved(
        world_size=world_size,
        train_rows=train_rows,
        global_batch_size=training.global_batch_size,
        micro_batch_size=micro,
        gradient_accumulation_steps=share // micro,
        total_steps=steps,
        epochs=epochs,
        learning_rate=rate,
        warmup_steps=math.ceil(training.warmup_ratio * steps),
        precision=precision,
        gradient_checkpointing=checkpointing,
        packing=packing,
        compile=compiled,
        strategy=strategy,
        offload=spec.distributed.offload,
        nvme_path=spec.distributed.nvme_path,
        checkpoint_steps=every or max(1, steps // _CHECKPOINTS),
        eval_steps=training.eval_steps or max(1, steps // _CHECKPOINTS),
        keeps_best=training.keeps_best,
        adapter=spec.adapter_settings,
        reasons=reasons,
    )


def _processes_reason(spec: TrainingJobSpec, world_size: int) -> str:
    if spec.distributed.num_proc_per_node is not None:
        return f"distributed.numProcPerNode is {spec.distributed.num_proc_per_node}"
    return "one for each GPU" if world_size > 1 else "one process: there is at most one GPU"


def _total_steps(spec: TrainingJobSpec, rows: int) -> tuple[int, str]:
    training = spec.training
    if training.max_steps is not None:
        return training.max_steps, "maxSteps is set in the spec"
    epochs = _DEFAULT_EPOCHS if training.epochs is None else training.epochs
    steps = max(1, math.ceil(rows * epochs / training.global_batch_size - 1e-9))
    default = " (default)" if training.epochs is None else ""
    return steps, f"{epochs:g} epochs{default} of {rows} rows, {training.global_batch_size} rows a step"


def _learning_rate(spec: TrainingJobSpec) -> tuple[float, str]:
    if spec.training.learning_rate is not None:
        return spec.training.learning_rate, _SET
    rate, why = METHODS[spec.method].default_learning_rate, f"default of {spec.method}"
    if spec.model.scratch is not None:
        rate, why = SCRATCH_LEARNING_RATE, "default for a model from scratch"
    if spec.compares_answers:
        return float(f"{rate * DPO_RATE_SHARE:.3g}"), f"{why}, of which objective dpo takes a twentieth"
    return rate, why


def _adapter_reasons(spec: TrainingJobSpec) -> dict[str, str]:
    """Return why each setting of the adapter that has a meaning; of the rarer ones only what the spec sets."""
    info = METHODS[spec.method]
    reasons = {}
    for field, path in _ADAPTER_FIELDS.items():
        given = getattr(spec.adapter, field, None) is not None
        means = info.trains_adapter and (field == "target_modules" or field in info.adapter_settings)
        if means and (given or field in _ALWAYS_SHOWN):
            reasons[path] = _SET if given else f"default of {spec.method}"
    return reasons


def _precision(spec: TrainingJobSpec, has_bf16: bool) -> tuple[Literal["fp32", "bf16"], str]:
    if spec.training.precision != "auto":
        return spec.training.precision, _SET
    return ("bf16", "the GPU has bf16") if has_bf16 else ("fp32", "there is no GPU with bf16")


def _best_reason(spec: TrainingJobSpec) -> str:
    training = spec.training
    if training.load_best_model_at_end is not None:
        return _SET
    return "default without earlyStopping" if training.early_stopping is None else "default with earlyStopping"
