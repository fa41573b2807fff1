"""What DeepSpeed keeps in the machine's memory instead of the GPU's.

The sources are `stage_1_and_2.py`, `stage3.py` and `offload_config.py` of DeepSpeed 0.19, and the allocator of
page-locked memory in torch, which rounds each block up to a power of two.
"""

from __future__ import annotations

from tunesmith_api.planner.formats import FP32
from tunesmith_api.planner.setup import Setup
from tunesmith_api.planner.shape import ModelShape

NVME_GROUP = 100_000_000
"""Elements that are read from a disk at once (train/distributed/zero.py)."""

_NVME_BUFFERS = 4  # `buffer_count` of `offload_optimizer`: weights, gradients and two moments
_NVME_WEIGHT_BUFFERS = 5 * 100_000_000  # elements: `buffer_count` times `buffer_size` of `offload_param`
_NVME_WEIGHTS_HELD = 1_000_000_000  # elements: `max_in_cpu` of `offload_param`


def pinned(size: int, *, gpu: bool) -> int:
    """Return the bytes that a page-locked block of a size takes; without a GPU nothing is page-locked."""
    return 1 << (size - 1).bit_length() if gpu and size > 0 else size


def offloaded_optimizer(shape: ModelShape, setup: Setup) -> int:
    """Return the bytes of the machine's memory that a process takes for its share of the optimizer's state.

    These are the fp32 weights, two moments, fp32 gradients and, in the type of training, the gradients (ZeRO 3) or the
    weights on their way back. With ZeRO 1 and 2 there is also a buffer as large as the largest trained tensor, and the
    gradients of earlier forward passes.

    Args:
        shape: The model.
        setup: How it is trained.
    """
    if setup.offload == "none":
        return 0
    share = -(-setup.trained_parameters(shape) // setup.processes)
    size, gpu = setup.formats.trained, setup.gpu
    if setup.nvme:
        return _NVME_BUFFERS * FP32 * min(share, NVME_GROUP) + pinned(share * size, gpu=gpu)
    moments = int(share * setup.info.optimizer_bytes)
    if setup.zero_stage == 3:
        return share * FP32 + moments + pinned(share * FP32, gpu=gpu) + pinned(share * size, gpu=gpu)
    total = moments + 2 * pinned(share * FP32, gpu=gpu) + pinned(share * size, gpu=gpu)
    total += pinned(setup.largest_trained(shape) * size, gpu=gpu)
    return total + (share * size if setup.gradient_accumulation_steps > 1 and setup.zero_stage == 2 else 0)


def offloaded_weights(shape: ModelShape, setup: Setup) -> int:
    """Return the bytes of the machine's memory that a process takes for its share of the weights.

    Args:
        shape: The model.
        setup: How it is trained.
    """
    if setup.offload != "all":
        return 0
    ranks, size, gpu = setup.processes, setup.formats.trained, setup.gpu
    share = -(-setup.trained_parameters(shape) // ranks)
    if setup.nvme:
        return size * (_NVME_WEIGHT_BUFFERS + min(share, _NVME_WEIGHTS_HELD))
    trained = pinned(share * size, gpu=gpu)
    if not setup.info.trains_adapter:
        return trained
    stored = setup.stored_linear
    layer = sum(pinned(int(linear.weights * stored) // ranks, gpu=gpu) for linear in shape.linears)
    ends = (1 if shape.tied else 2) * pinned(int(shape.embedding * setup.formats.frozen) // ranks, gpu=gpu)
    return trained + shape.layers * layer + ends
