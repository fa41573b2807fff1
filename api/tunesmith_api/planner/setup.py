"""One way to train a model: everything that its memory and time depend on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from tunesmith_api.choices.speed import bucket
from tunesmith_api.choices.spread import Strategy
from tunesmith_api.methods import METHODS, MethodInfo
from tunesmith_api.planner.adapters import Lora, kind_of
from tunesmith_api.planner.formats import Formats, formats_of
from tunesmith_api.planner.passes import Pass
from tunesmith_api.planner.shape import Linear, ModelShape
from tunesmith_api.resolve import Offload
from tunesmith_api.spec import AdapterSettings

_PACKED = 0.5  # bytes of a weight in four bits


@dataclass(frozen=True)
class DataShape:
    """The size of the training data. What is not known is None, and taken as large as the job allows.

    Attributes:
        rows: Number of training rows.
        longest: Tokens of the longest row.
        mean: Tokens of a row on average.
        targets: Most positions of one batch that have a target in some row.
    """

    rows: int | None = None
    longest: int | None = None
    mean: float | None = None
    targets: int | None = None


@dataclass(frozen=True)
class Setup:
    """One way to train a model.

    Attributes:
        method: Value of `spec.method`.
        precision: Numeric precision.
        strategy: How training is spread over processes.
        processes: Processes that train together, over all machines.
        micro_batch_size: Rows of one forward pass in one process.
        gradient_accumulation_steps: Forward passes of one process in one optimizer step.
        length: Tokens of the longest row, with padding.
        gradient_checkpointing: Whether activations are recomputed in the backward pass.
        adapter: The adapter's settings; None where the method trains none.
        gpu: Whether training runs on GPUs.
        targets: Most positions of one batch that have a target; None if not known.
        offload: What DeepSpeed keeps outside of the GPU's memory: nothing, the optimizer's state, or also the weights.
        nvme: Whether that is kept on a disk instead of the machine's memory.
        packing: Whether rows are laid end to end in packs of at most the micro-batch's tokens.
        sequences: Sequences of tokens that a row has: two where it is a pair of answers.
    """

    method: str
    precision: Literal["fp32", "bf16"]
    strategy: Strategy
    processes: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    length: int
    gradient_checkpointing: bool
    adapter: AdapterSettings | None
    gpu: bool
    targets: int | None = None
    offload: Offload = "none"
    nvme: bool = False
    packing: bool = False
    sequences: int = 1

    @property
    def info(self) -> MethodInfo:
        """The facts about the method."""
        return METHODS[self.method]

    @property
    def zero_stage(self) -> int:
        """The stage of DeepSpeed ZeRO, 0 for plain torch."""
        return int(self.strategy[-1]) if self.strategy.startswith("zero") else 0

    @property
    def batch_sequences(self) -> int:
        """Sequences of tokens of one forward pass in one process."""
        return self.micro_batch_size * self.sequences

    @property
    def tokens(self) -> int:
        """Tokens of one forward pass in one process, with what fills it up."""
        tokens = self.batch_sequences * self.length
        return bucket(tokens) if self.packing and self.gpu else tokens

    @property
    def target_positions(self) -> int:
        """Positions of a row whose logits are computed. The last token of a row never has a target.

        A pack can have more rows with fewer other tokens than a padded batch.
        """
        longest = max(1, self.length - 1)
        return longest if self.targets is None or self.packing else min(self.targets, longest)

    @cached_property
    def formats(self) -> Formats:
        """The number formats."""
        return formats_of(self.info, self.precision, self.zero_stage)

    @property
    def kind(self) -> Lora:
        """The kind of adapter; of no meaning where none is trained."""
        return kind_of(self.info)

    @cached_property
    def forward_pass(self) -> Pass:
        """One forward pass, as an adapter sees it."""
        return Pass(self.tokens, self.info, self.adapter or AdapterSettings(), self.formats, self.gpu)

    @property
    def stored_linear(self) -> float:
        """Bytes of a frozen weight of a linear layer, without scales."""
        return self.formats.frozen if self.info.quantized_weight_bytes is None else _PACKED

    @property
    def scale_bytes(self) -> float:
        """Bytes of a quantized weight for its scales; 0 where it is not quantized."""
        quantized = self.info.quantized_weight_bytes
        return 0 if quantized is None else quantized - _PACKED

    def adapts(self, linear: Linear) -> bool:
        """Return whether a linear layer gets an adapter."""
        if self.adapter is None:
            return False
        targets = self.adapter.target_modules
        return targets is None or any(linear.name == t.rsplit(".", 1)[-1] for t in targets)

    def adapter_parameters(self, linear: Linear) -> int:
        """Return the parameters of the adapter of a linear layer; 0 if it has none."""
        if self.adapter is None or not self.adapts(linear):
            return 0
        return self.info.layer_parameters(self.adapter, linear)

    def trained_parameters(self, shape: ModelShape) -> int:
        """Return the number of parameters that are trained."""
        if self.info.trains_adapter:
            return shape.layers * sum(self.adapter_parameters(linear) for linear in shape.linears)
        return shape.parameters

    def largest_trained(self, shape: ModelShape) -> int:
        """Return the elements of the largest tensor that is trained."""
        if not self.info.trains_adapter:
            return max(shape.embedding, *(linear.weights for linear in shape.linears))
        spec = self.forward_pass.spec
        return max((self.kind.largest(linear, spec) for linear in shape.linears if self.adapts(linear)), default=0)
