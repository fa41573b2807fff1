"""Ways to train that are planned, and then really run in processes of their own, to compare the memory."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_api.choices.spread import Strategy
from tunesmith_api.methods import METHODS
from tunesmith_api.planner import ModelShape, RankMemory, Setup, rank_memory
from tunesmith_api.planner.process_memory import process_memory
from tunesmith_api.resolve import Offload
from tunesmith_api.spec import AdapterSpec, adapter_settings

TESTS = Path(__file__).resolve().parents[1]

_66M = {"vocab_size": 16384, "hidden_size": 640, "intermediate_size": 1792, "num_hidden_layers": 10}
MODELS: dict[str, dict[str, Any]] = {
    "llama-8m": {
        "model_type": "llama",
        "vocab_size": 4096,
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    },
    "llama-66m": {"model_type": "llama", **_66M, "num_attention_heads": 10, "num_key_value_heads": 5},
    "phi3-66m": {"model_type": "phi3", **_66M, "num_attention_heads": 10, "num_key_value_heads": 10},
    "qwen2-66m": {"model_type": "qwen2", **_66M, "num_attention_heads": 10, "num_key_value_heads": 2},
    "qwen3-66m": {
        "model_type": "qwen3",
        **_66M,
        "num_attention_heads": 10,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "gemma-66m": {
        "model_type": "gemma",
        **_66M,
        "num_attention_heads": 10,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "llama-wide": {  # so many logits that the loss is computed in pieces
        "model_type": "llama",
        "vocab_size": 131072,
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    },
    "llama-1b": {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
}
"""Fields of their config.json."""


@dataclass(frozen=True)
class Point:
    """A way to train a model on rows of one length.

    Attributes:
        model: A key of `MODELS`.
        learned: Share of the tokens that are targets, the last ones of each row.
    """

    model: str = "llama-66m"
    method: str = "full"
    strategy: Strategy = "ddp"
    processes: int = 1
    length: int = 128
    micro_batch_size: int = 2
    accumulation: int = 1
    checkpointing: bool = False
    precision: str = "fp32"
    dropout: float = 0.0
    learned: float = 1.0
    gpu: bool = False
    offload: Offload = "none"
    packing: bool = False

    @property
    def shape(self) -> ModelShape:
        """The model."""
        return ModelShape.from_config(MODELS[self.model])

    @property
    def targets(self) -> int:
        """Targets of a row."""
        return min(int(self.length * self.learned), self.length - 1)

    @property
    def trains_adapter(self) -> bool:
        """Whether an adapter is trained."""
        return METHODS[self.method].trains_adapter

    def setup(self) -> Setup:
        """Return it as the planner takes it."""
        return Setup(
            method=self.method,
            precision="bf16" if self.precision == "bf16" else "fp32",
            strategy=self.strategy,
            processes=self.processes,
            micro_batch_size=self.micro_batch_size,
            gradient_accumulation_steps=self.accumulation,
            length=self.length,
            gradient_checkpointing=self.checkpointing,
            adapter=adapter_settings(self.method, AdapterSpec(dropout=self.dropout) if self.dropout else None),
            gpu=self.gpu,
            targets=self.targets,
            offload=self.offload,
            packing=self.packing,
        )

    def predicted(self) -> RankMemory:
        """Return what the planner says."""
        return rank_memory(self.shape, self.setup())

    def spec(self, base: Path) -> dict[str, Any]:
        """Return the job."""
        batch = self.micro_batch_size * self.processes * self.accumulation
        return {
            "model": {"uri": str(base)},
            "method": self.method,
            "dataset": {"sources": [{"uri": "./rows.jsonl"}]},
            "training": {
                "globalBatchSize": batch,
                "microBatchSize": self.micro_batch_size,
                "maxLength": self.length,
                "maxSteps": 2,  # from the second on there is all of the optimizer's state
                "checkpoint": {"everySteps": 100},
                "gradientCheckpointing": self.checkpointing,
                "precision": self.precision,
                **({"packing": True} if self.packing else {}),
            },
            "distributed": {
                "strategy": self.strategy,
                "numProcPerNode": self.processes,
                **({"offload": self.offload} if self.offload != "none" else {}),
            },
            **({"adapter": {"dropout": self.dropout}} if self.dropout else {}),
        }


@dataclass(frozen=True)
class Measured:
    """What the processes of a run took at most, each by itself, in bytes.

    Attributes:
        allocated: Tensors of the process that had most: on a GPU as torch counts them, else as `Allocations` does.
        resident: Resident memory of the process (VmHWM).
        seconds: Duration of the run.
    """

    allocated: int
    resident: int
    seconds: float


class Trainers:
    """Trains points, one after the other, in processes that share nothing but the import of the libraries."""

    def __init__(self, folder: Path) -> None:
        """Start no process yet.

        Args:
            folder: Where models are kept for the next point, and a run's files for its duration.
        """
        self.folder = folder
        self._processes: dict[bool, subprocess.Popen[str]] = {}

    def __enter__(self) -> "Trainers":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def measure(self, point: Point, log: Path | None = None) -> Measured:
        """Train two steps as the product does, and return what was taken.

        Args:
            point: How to train.
            log: Where to write what was alive at the peak of the first process.
        """
        base = _base(point, self.folder)
        work = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            _prepare(point, base, work)
            results = self._train(point, work, log is not None)
            if log is not None:
                shutil.copy(work / "report-0.log", log)
        finally:
            shutil.rmtree(work)
        return Measured(*(max(result[name] for result in results) for name in ("allocated", "resident", "seconds")))

    def _train(self, point: Point, work: Path, log: bool) -> list[dict[str, Any]]:
        process = self._started(point.strategy != "ddp")
        assert process.stdin is not None and process.stdout is not None
        request = {"work": str(work), "ranks": _variables(point), "log": log}
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline() or "{}")
        if "ranks" not in answer:
            raise RuntimeError(f"{point}: {answer or 'the process has ended'}")
        ranks: list[dict[str, Any]] = answer["ranks"]
        return ranks

    def _started(self, deepspeed: bool) -> "subprocess.Popen[str]":
        """Return the process that forks the trainers: one with DeepSpeed, one without, as in the product."""
        if deepspeed not in self._processes:
            self._processes[deepspeed] = subprocess.Popen(
                [sys.executable, "-m", "support.plan_child", *(["--deepspeed"] if deepspeed else [])],
                env=_environment(OMP_NUM_THREADS="1"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        return self._processes[deepspeed]


def resident(point: Point, *, reserve: bool = False) -> int:
    """Return the bytes that the planner says a process of a point takes on the CPU."""
    process = process_memory(point.shape, point.setup())
    return process + (point.predicted().reserve if reserve else 0)


def _base(point: Point, folder: Path) -> Path:
    """Return the model at random weights, in bf16 where an adapter is trained in it, as one downloads it."""
    half = point.precision == "bf16"
    base = folder / f"{point.model}-{'bf16' if half else 'fp32'}"
    if not base.exists():
        code = f"from support.plan_child import save_model; save_model({str(base)!r}, {MODELS[point.model]!r}, {half})"
        subprocess.run([sys.executable, "-c", code], env=_environment(), check=True)
    return base


def _prepare(point: Point, base: Path, work: Path) -> None:
    """Make a work folder whose next stage is `train`."""
    from tunesmith_trainer.data.token_store import TokenStore

    spec = point.spec(base)
    count = 2 * spec["training"]["globalBatchSize"]
    ids = [(7 * index) % 1000 + 3 for index in range(point.length)]
    mask = [0] * (point.length - point.targets) + [1] * point.targets
    TokenStore.write(work / "prepare" / "data" / "train", [(ids, mask)] * count)
    TokenStore.write(work / "prepare" / "data" / "validation", [])
    (work / "config.json").write_text(json.dumps({"name": "point", "spec": spec}))
    marker = {"inputs": "prepared", "model": {"path": str(base.absolute())}, "data": {"trainRows": count}}
    (work / "prepare" / "stage.json").write_text(json.dumps(marker))


def _variables(point: Point) -> list[dict[str, str]]:
    """Return the variables of each process, as torchrun sets them."""
    if point.processes == 1:
        return [{}]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    size = str(point.processes)
    shared = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [str(rank) for rank in range(point.processes)]
    return [{**shared, "RANK": rank, "LOCAL_RANK": rank, "GLOO_SOCKET_IFNAME": "lo"} for rank in ranks]


def _environment(**extra: str) -> dict[str, str]:
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    # A process that has asked CUDA itself cannot fork others that use it.
    return {**os.environ, "PYTHONPATH": path, "PYTORCH_NVML_BASED_CUDA_CHECK": "1", **extra}
