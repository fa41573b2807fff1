"""What each stage needs: host memory, disk, and what is downloaded."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith_api.methods import METHODS
from tunesmith_api.planner.formats import BF16, FP32
from tunesmith_api.planner.machine import Machine
from tunesmith_api.planner.phase import frozen_bytes
from tunesmith_api.planner.process_memory import libraries, process_memory
from tunesmith_api.planner.rank_memory import rank_memory
from tunesmith_api.planner.setup import DataShape, Setup
from tunesmith_api.planner.shape import ModelShape
from tunesmith_api.spec import Precision, TrainingJobSpec

_GIB = 2**30
_MB = 10**6
_FILES = 400 * _MB  # the part of it that is files' pages, which all processes of a pod share
_LAUNCHER = 400 * _MB  # torchrun and the process that started it, without such pages
_PREPARE = 2 * _GIB  # weights and rows are streams
_CUDA_LIBRARIES = 3 * _GIB  # libraries of CUDA in the memory of a process
_STATE = 12  # bytes of a trained weight in a checkpoint: itself and Adam's two moments
_QUANTISED = {"int4": 0.65, "int8": 1.01}  # bytes of a quantised weight, with its share of the scale and zero point
_EXPORT_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0}


@dataclass(frozen=True)
class StageNeed:
    """What one stage needs, in bytes.

    Attributes:
        memory: Peak of the whole process tree, with the reserve.
        disk: What is in the work folder when the stage ends, earlier stages included.
        gpu_memory: Memory of each GPU, with the reserve; None if the stage uses none.
        seconds: How long it takes; None if that is not known.
    """

    memory: int
    disk: int
    gpu_memory: int | None = None
    seconds: float | None = None


def disk_parts(spec: TrainingJobSpec, shape: ModelShape, trained: int, checkpoints: int) -> dict[str, int]:
    """Return the bytes that train and publish write in the work folder, by what they are.

    Args:
        spec: The job.
        shape: Its model.
        trained: Parameters that are trained.
        checkpoints: How many checkpoints are there at once.
    """
    merges = METHODS[spec.method].trains_adapter and not spec.export.adapter_only
    # Each checkpoint has those that were the best by then; then the newest ones, and the next while they are written.
    best = (checkpoints + 2) * trained * 4 if spec.training.keeps_best else 0
    exports = {f"{precision.value} export": export_bytes(shape, precision) for precision in spec.precisions}
    published = spec.training.checkpoint.publish or 0
    each = 0 if spec.export.adapter_only else sum(exports.values())
    return {
        "checkpoints": checkpoints * trained * _STATE + best,
        "trained weights": (1 + published) * trained * 4,
        "merged model": shape.weight_bytes if merges else 0,
        "dequantized base model": shape.weight_bytes if METHODS[spec.method].is_quantized else 0,
        **exports,
        **({"exports of checkpoints": published * each} if published else {}),
    }


def export_bytes(shape: ModelShape, precision: Precision) -> int:
    """Return the bytes of an export, in which tied tensors are stored twice."""
    whole = _EXPORT_BYTES.get(precision.value)
    if whole is not None:
        return int((shape.parameters + (shape.embedding if shape.tied else 0)) * whole)
    quantised = shape.layers * sum(linear.weights for linear in shape.linears) + shape.embedding
    return int(quantised * _QUANTISED[precision.value] + shape.embedding * 4 + shape.layers * sum(shape.norms) * 4)


def stage_needs(
    spec: TrainingJobSpec, shape: ModelShape, data: DataShape, machine: Machine, setup: Setup, checkpoints: int
) -> dict[str, StageNeed]:
    """Return what each stage needs.

    Args:
        spec: The job.
        shape: Its model.
        data: Its data.
        machine: Where it trains.
        setup: How it trains.
        checkpoints: How many checkpoints are there at once.
    """
    scratch = spec.model.scratch is not None
    parts = disk_parts(spec, shape, setup.trained_parameters(shape), checkpoints)
    rows = (data.rows or 0) * (data.mean or spec.training.max_length)
    prepared = shape.weight_bytes + int(rows * 5) + 64 * 2**20
    trained = prepared + parts["checkpoints"] + parts["trained weights"]
    published = prepared + sum(parts.values())
    prepare = _PREPARE + (2 * shape.parameters * 4 if scratch else 0)
    rank = rank_memory(shape, setup)
    local = min(setup.processes, machine.gpus) if setup.gpu else setup.processes
    shared = _FILES + (_LAUNCHER if setup.processes > 1 else 0)
    if setup.gpu:
        held = max(_loaded(shape, setup), rank.host)
        train = StageNeed(shared + local * (libraries(setup) - _FILES + _CUDA_LIBRARIES + held), trained, rank.total)
    else:
        process = process_memory(shape, setup) - _FILES + rank.reserve
        train = StageNeed(shared + local * process, trained)
    publish = int(1.4 * shape.weight_bytes) + 3 * 10**9
    return {
        "prepare": StageNeed(prepare, prepared),
        "train": train,
        "publish": StageNeed(publish, published),
    }


def _loaded(shape: ModelShape, setup: Setup) -> int:
    """Return the bytes that a process has of the model when it is loaded, before it goes to the GPU.

    Quantized weights are made one after the other from the tensors of the files.
    """
    size = BF16 if setup.precision == "bf16" and setup.info.trains_adapter else FP32
    if not setup.info.is_quantized:
        return int(1.1 * shape.parameters * size)
    return int(1.1 * frozen_bytes(shape, setup)) + shape.embedding * FP32
