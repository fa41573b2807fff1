"""DeepSpeed: keeps it from compiling extensions, and finds the parts of weights and optimizer state of a process."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of each weight."""

_NVME_OPS = {"pin_memory": "deepspeed.ops.pin_memory.pin_memory_op", "async_io": "deepspeed.ops.aio.async_io_op"}


def compile_nothing() -> None:
    """Keep DeepSpeed from building its extensions. It would build one for shared memory on a CPU with a compiler.

    Remove when DeepSpeed has a setting for it.
    """
    import deepspeed
    from deepspeed.ops.op_builder.builder import OpBuilder

    def refuse(builder: Any, verbose: bool = True) -> Any:  # noqa: ANN401 - an OpBuilder
        raise RuntimeError(f"DeepSpeed's extension {builder.name} is not built, and nothing is compiled at run time")

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    OpBuilder.jit_load = refuse


def load_nvme_extensions() -> bool:
    """Load the extensions for offloading to a disk, and return whether they are built.

    DeepSpeed itself loads only those that were built for the accelerator in use. They move tensors that are in the
    machine's memory, so those that were built without CUDA do for a GPU as well.
    """
    from deepspeed.ops.op_builder import PinMemoryBuilder
    from deepspeed.ops.op_builder.builder import OpBuilder

    try:
        OpBuilder._loaded_ops["pin_memory"] = importlib.import_module(_NVME_OPS["pin_memory"])
        PinMemoryBuilder().load()  # the other one needs its symbols
        OpBuilder._loaded_ops["async_io"] = importlib.import_module(_NVME_OPS["async_io"])
    except ImportError:
        return False
    return True


def whole(weights: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield weights by name, gathered one at a time if they are partitioned. All processes take part, in step.

    Args:
        weights: Parameters and buffers. Those of ZeRO 3 are empty tensors with a partition.
    """
    for name, weight in weights:
        if not hasattr(weight, "ds_id"):
            yield name, weight.detach()
            continue
        import deepspeed

        with deepspeed.zero.GatheredParameters([weight]):
            yield name, weight.detach()


def whole_float32(weights: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield trained weights by name, float32 as the optimizer has them. All processes take part, in step."""
    from deepspeed.utils import safe_get_full_fp32_param

    for name, weight in weights:
        yield name, safe_get_full_fp32_param(weight)


def shape_of(weight: torch.Tensor) -> torch.Size:
    """Return a weight's shape, also of one that is partitioned."""
    return torch.Size(getattr(weight, "ds_shape", weight.shape))


@dataclass(frozen=True)
class Fragment:
    """The part of a trained weight whose optimizer state this process has.

    Attributes:
        name: The weight's name.
        total: Number of values of the whole weight.
        start: Where the part begins in the flat weight.
        count: Number of its values.
        offset: Where the part begins in the flat tensors of its group.
    """

    name: str
    total: int
    start: int
    count: int
    offset: int


@dataclass(frozen=True)
class FragmentGroup:
    """Fragments whose float32 weights, and whose moments, lie in one flat tensor each.

    Attributes:
        flat: The weights, float32 [n].
        fragments: The fragments.
        state: AdamW's state of the flat tensor; empty before the first step.
    """

    flat: torch.Tensor
    fragments: list[Fragment]
    state: dict[str, Any] = field(default_factory=dict)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the flat tensors by what they hold."""
        return {"weight": self.flat, **{name: self.state[name] for name in MOMENTS}}


class Partition:
    """What one process has of the weights and of the optimizer's state under ZeRO 1, 2 or 3."""

    def __init__(self, engine: Any, names: dict[int, str]) -> None:  # noqa: ANN401 - a DeepSpeedEngine
        """Create a view of an engine's partition.

        Args:
            engine: DeepSpeed's engine.
            names: The weights' names by the id of the parameter.
        """
        self._zero = engine.optimizer
        self._names = names
        self._stage = engine.zero_optimization_stage()

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self._zero.fp16_groups if self._stage == 3 else self._zero.bit16_groups)

    @contextmanager
    def group(self, index: int, *, change: bool = False) -> Iterator[FragmentGroup]:
        """Give access to a group. What is on a disk is read for it, and written back if it is to be changed."""
        zero, optimizer = self._zero, self._zero.optimizer
        if self._stage != 3:
            flat = zero.single_partition_of_fp32_groups[index]
            fragments = [self._mapped(weight) for weight in zero.bit16_groups[index] if weight._hp_mapping is not None]
            yield FragmentGroup(flat, fragments, optimizer.state[flat])
            return
        swapped = zero._swappable_optimizer_subgroup(index)
        if swapped:
            zero._optimizer_states_and_gradient_swap_in(index)
        flat = zero.fp32_partitioned_groups_flat[index]
        yield FragmentGroup(flat, list(self._partitioned(index)), optimizer.state[flat])
        if swapped and change:
            zero._optimizer_states_and_gradient_swap_out(index)
        elif swapped:
            zero._release_swap_buffers(index)

    def _mapped(self, weight: Any) -> Fragment:  # noqa: ANN401 - a parameter of ZeRO 1 or 2
        in_weight, in_flat = weight._hp_mapping.lp_fragment_address, weight._hp_mapping.hp_fragment_address
        return Fragment(self._names[id(weight)], weight.numel(), in_weight.start, in_weight.numel, in_flat.start)

    def _partitioned(self, index: int) -> Iterator[Fragment]:
        rank = torch.distributed.get_rank()
        for weight in self._zero.fp16_groups[index]:
            _, offset, size = self._zero.grad_position[self._zero.get_param_id(weight)]
            start = min(rank * size, weight.ds_numel)  # the last partitions may be padding in part or as a whole
            count = min(size, weight.ds_numel - start)
            yield Fragment(self._names[id(weight)], weight.ds_numel, start, count, offset)

    def start_state(self, group: FragmentGroup, step: float) -> None:
        """Give a group an optimizer state, as the first step would.

        Args:
            group: The group.
            step: How many steps AdamW has done.
        """
        options = self._zero.optimizer.param_groups[0]
        on_device = bool(options.get("fused") or options.get("capturable"))
        place = group.flat.device if on_device else torch.device("cpu")
        group.state["step"] = torch.tensor(step, dtype=torch.float32, device=place)
        for name in MOMENTS:
            group.state[name] = torch.zeros_like(group.flat)

    def spread(self) -> None:
        """Give all processes the weights that forward passes use, made from the float32 weights."""
        zero = self._zero
        if self._stage != 3:
            zero.update_lp_params()
            return
        for index in range(len(self)):
            with self.group(index):
                zero._reassign_or_swap_out_partitioned_parameters(index)
        if zero.persistent_parameters:
            zero.persistent_parameters[0].partition(zero.persistent_parameters)
            zero.persistent_parameters[0].all_gather(zero.persistent_parameters)
