"""How to train: hyper-parameters, checkpoints and distribution."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field

from tunesmith_api.methods import describe_learning_rates
from tunesmith_api.spec.base import Rule, SpecModel

_SYSTEM = r"^/(bin|boot|dev|etc|lib|lib64|opt|proc|root|run|sbin|sys|usr)(/|$)"


class CheckpointSpec(SpecModel):
    """When training state is saved."""

    every_steps: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Steps between two checkpoints; a tenth of the run by default.",
        examples=[100],
    )
    keep: int = Field(default=2, ge=1, le=100, description="How many of the newest checkpoints are kept.")
    publish: int | None = Field(
        default=None,
        ge=0,
        le=5,
        description="How many checkpoints before the last are published too: the weights at the ends of the newest "
        "epochs, each exported and checked as the job's result is, as an artifact beside it "
        "(status.artifact.checkpoints). Validation rows are evaluated there too. None by default: each takes as long "
        "to export as the result.",
        examples=[2],
    )


class EarlyStoppingSpec(SpecModel):
    """When training ends before its last step, because the loss on the validation rows no longer falls."""

    patience: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="Evaluations in a row without an improvement after which training stops (see evalSteps).",
    )
    min_delta: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="By how much, in nats, the loss must be below that of the last improvement to be another one.",
    )


class TrainingSpec(SpecModel):
    """Hyper-parameters of the training run."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!(has(self.epochs) && has(self.maxSteps))",
            "only one of epochs and maxSteps can be set; remove the one you do not mean",
            lambda t: t.epochs is None or t.max_steps is None,
        ),
        Rule(
            "!has(self.microBatchSize) || self.globalBatchSize % self.microBatchSize == 0",
            "globalBatchSize must be a multiple of microBatchSize; "
            "write for example globalBatchSize: 16, microBatchSize: 4",
            lambda t: t.micro_batch_size is None or t.global_batch_size % t.micro_batch_size == 0,
        ),
    )

    epochs: float | None = Field(
        default=None,
        gt=0,
        le=10_000,
        description="Passes over the training rows; 3 when maxSteps is not set either.",
        examples=[3],
    )
    max_steps: int | None = Field(
        default=None, ge=1, le=100_000_000, description="Optimizer steps, instead of epochs.", examples=[1000]
    )
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description=f"Peak learning rate; by default {describe_learning_rates()}.",
        examples=[2e-4],
    )
    scheduler: Literal["linear", "cosine", "constant"] = Field(
        default="cosine", description="Course of the learning rate after the warm-up: linear, cosine or constant."
    )
    warmup_ratio: float = Field(
        default=0.03, ge=0, lt=1, description="Share of the steps over which the learning rate rises from 0."
    )
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="Weight decay of AdamW.")
    max_grad_norm: float = Field(default=1.0, gt=0, le=1000, description="Norm to which gradients are clipped.")
    global_batch_size: int = Field(
        default=16, ge=1, le=65_536, description="Rows of one optimizer step, over all processes together."
    )
    micro_batch_size: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Rows of one forward pass in one process; by default the plan takes the largest that fits in "
        "memory and divides the share of a process, up to 8.",
        examples=[4],
    )
    max_length: int = Field(
        default=1024,
        ge=8,
        le=1_048_576,
        description="Longest row in tokens. Longer texts are cut into several rows, longer conversations lose their "
        "oldest turns.",
    )
    loss_on: Literal["assistant", "all"] = Field(
        default="assistant",
        description="Tokens that are learned: those of the assistant's turns (or the completion), or all.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="Numeric precision: fp32, bf16, or auto (bf16 on a GPU that has it, else fp32)."
    )
    gradient_checkpointing: bool | None = Field(
        default=None,
        description="Recompute activations in the backward pass: less memory, about a third more time. "
        "By default only if the plan needs it to fit in memory.",
        examples=[True],
    )
    packing: bool | None = Field(
        default=None,
        description="Lay the rows of a process end to end instead of padding them; each attends to itself alone, "
        "and the loss is the same. By default on GPUs that have bf16, where the model's attention has a kernel for it.",
        examples=[False],
    )
    compile: bool | None = Field(
        default=None,
        description="Compile the model's layers with torch.compile when training starts, which takes minutes and needs "
        "a C compiler, as the trainer's image has none. Off by default.",
        examples=[True],
    )
    seed: int = Field(default=42, ge=0, le=2**31 - 1, description="Seed of everything that is random.")
    eval_steps: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Steps between two evaluations on validation rows, and one follows the last step; a tenth of the "
        "run by default.",
        examples=[50],
    )
    early_stopping: EarlyStoppingSpec | None = Field(
        default=None,
        description="Stop when the loss on the validation rows no longer falls; by default all steps are done.",
        examples=[{"patience": 3}],
    )
    load_best_model_at_end: bool | None = Field(
        default=None,
        description="Publish the weights that had the lowest loss on the validation rows, instead of the last ones; "
        "by default only with earlyStopping.",
        examples=[True],
    )
    checkpoint: CheckpointSpec = Field(default=CheckpointSpec(), description="When training state is saved.")

    @property
    def keeps_best(self) -> bool:
        """Whether the weights with the lowest validation loss are published, instead of the last ones."""
        if self.load_best_model_at_end is None:
            return self.early_stopping is not None
        return self.load_best_model_at_end


def _strategy_rule(offload: str, strategies: tuple[str, ...]) -> Rule:
    """Return the rule that an offload goes with these strategies, or with auto, which takes one of them."""
    known = ("auto", *strategies)
    named = " or ".join(strategies) if len(strategies) < 3 else f"{', '.join(strategies[:-1])} or {strategies[-1]}"
    return Rule(
        f"!has(self.offload) || self.offload != '{offload}' || !has(self.strategy) || "
        f"self.strategy in [{', '.join(repr(name) for name in known)}]",
        f"offload: {offload} goes with {named}; write strategy: {strategies[-1]}, or remove offload",
        lambda d: d.offload != offload or d.strategy in known,
    )


class DistributedSpec(SpecModel):
    """How training is spread over processes."""

    rules: ClassVar[tuple[Rule, ...]] = (
        _strategy_rule("optimizer", ("zero1", "zero2", "zero3")),
        _strategy_rule("all", ("zero3",)),
        Rule(
            "!has(self.nvmePath) || (has(self.offload) && self.offload != 'none')",
            "nvmePath is where offload puts things, and offload is none; write offload: optimizer or offload: all, "
            "or remove nvmePath",
            lambda d: d.nvme_path is None or d.offload != "none",
        ),
        Rule(
            "!has(self.nvmePath) || !has(self.strategy) || self.strategy in ['auto', 'zero3']",
            "nvmePath goes with zero3; write strategy: zero3, or remove nvmePath to offload to the machine's memory",
            lambda d: d.nvme_path is None or d.strategy in ("auto", "zero3"),
        ),
        Rule(
            f"!has(self.nvmePath) || !self.nvmePath.matches('{_SYSTEM}')",
            "nvmePath must not be in a folder of the system; write for example nvmePath: /nvme",
            lambda d: d.nvme_path is None or not re.search(_SYSTEM, d.nvme_path),
        ),
    )

    strategy: Literal["auto", "ddp", "zero1", "zero2", "zero3"] = Field(
        default="auto",
        description="ddp (plain torch), or DeepSpeed ZeRO stage 1, 2 or 3. auto takes what the plan says: ddp, or the "
        "lowest stage with which the model fits in memory.",
    )
    num_proc_per_node: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Processes on each machine; one for each GPU by default, one where there is none.",
        examples=[2],
    )
    offload: Literal["none", "optimizer", "all"] = Field(
        default="none",
        description="What DeepSpeed keeps in the machine's memory instead of the GPU's: nothing, the optimizer's "
        "state (zero1, zero2 or zero3), or also the weights (all; zero3). Larger models fit, and steps take longer.",
    )
    nvme_path: str | None = Field(
        default=None,
        max_length=253,
        pattern=r"^(/[A-Za-z0-9._-]+)+$",
        description="A folder on a fast local disk where zero3 offloads to, instead of the machine's memory. On "
        "Kubernetes the training pods have an emptyDir there, on their node's disk.",
        examples=["/nvme"],
    )
