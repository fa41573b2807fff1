"""How to train: hyper-parameters, checkpoints and distribution."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from tunesmith_api.methods import describe_learning_rates
from tunesmith_api.spec.base import Rule, SpecModel


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
    seed: int = Field(default=42, ge=0, le=2**31 - 1, description="Seed of everything that is random.")
    checkpoint: CheckpointSpec = Field(default=CheckpointSpec(), description="When training state is saved.")


class DistributedSpec(SpecModel):
    """How training is spread over processes."""

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
