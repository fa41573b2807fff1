"""The state of a ZeRO run in a checkpoint, which any number of processes can go on from.

Each process writes a file with its own part of it: of each trained weight a fragment of the float32 values and of
AdamW's moments, and in the file's metadata where the fragment belongs. To go on, a process reads the pieces that it
needs from all files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.models.weight_writer import SafetensorsWriter, empty
from tunesmith_trainer.models.weights import open_safetensors
from tunesmith_trainer.train.compat.deepspeed import MOMENTS, Fragment, Partition

_FOLDER = "zero"
_KINDS = ("weight", *MOMENTS)


def save_partition(partition: Partition, checkpoint: Path) -> None:
    """Write this process's part of the state. All processes call it, each with its own part.

    Args:
        partition: What this process has of it, after at least one step.
        checkpoint: The folder of the checkpoint.
    """
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    folder = checkpoint / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    layout, places, step = {}, {}, 0.0
    for index in range(len(partition)):
        with partition.group(index) as group:
            step = float(group.state["step"])
            for fragment in group.fragments:
                places[fragment.name] = [fragment.start, fragment.count, fragment.total]
                layout.update({_key(fragment.name, kind): empty([fragment.count], torch.float32) for kind in _KINDS})
    about = {"fragments": json.dumps(places), "step": repr(step), "processes": str(world)}
    with SafetensorsWriter(folder / f"{rank}.safetensors", layout, about) as writer:
        for index in range(len(partition)):
            with partition.group(index) as group:
                for kind, flat in group.tensors().items():
                    for fragment in group.fragments:
                        part = flat.narrow(0, fragment.offset, fragment.count)
                        writer.write(_key(fragment.name, kind), part)


def load_partition(partition: Partition, checkpoint: Path) -> None:
    """Set this process's part of the state, and the weights of all. All processes call it.

    Args:
        partition: What this process has of it, before the first step.
        checkpoint: The folder of a checkpoint, made by any number of processes and any stage of ZeRO.

    Raises:
        StageError: INTERNAL_ERROR: the checkpoint lacks a part of it.
    """
    saved = _SavedState(checkpoint / _FOLDER)
    for index in range(len(partition)):
        with partition.group(index, change=True) as group:
            partition.start_state(group, saved.step)
            for kind, flat in group.tensors().items():
                for fragment in group.fragments:
                    saved.read(fragment, kind, flat.data.narrow(0, fragment.offset, fragment.count))
    partition.spread()


@dataclass(frozen=True)
class _Piece:
    """A fragment in a file: its file, where it begins in the weight, and where it ends."""

    file: Any
    start: int
    end: int


class _SavedState:
    """The state in the files of all processes.

    Attributes:
        step: How many steps AdamW has done.
    """

    def __init__(self, folder: Path) -> None:
        self.step = 0.0
        self._pieces: dict[str, list[_Piece]] = {}
        self._totals: dict[str, int] = {}
        first = open_safetensors(folder / "0.safetensors")
        for rank in range(int(first.metadata()["processes"])):
            file = open_safetensors(folder / f"{rank}.safetensors")
            self.step = max(self.step, float(file.metadata()["step"]))
            for name, (start, count, total) in json.loads(file.metadata()["fragments"]).items():
                self._pieces.setdefault(name, []).append(_Piece(file, start, start + count))
                self._totals[name] = total

    def read(self, fragment: Fragment, kind: str, target: torch.Tensor) -> None:
        """Fill a flat tensor with a fragment.

        Args:
            fragment: What belongs in it.
            kind: `weight`, or the name of a moment.
            target: float32 [fragment.count].
        """
        if self._totals.get(fragment.name) != fragment.total:
            raise _damaged(f"it has {self._totals.get(fragment.name, 0)} values of {fragment.name}")
        filled = 0
        for first, end, piece in self._overlaps(fragment):
            values = piece.file.get_slice(_key(fragment.name, kind))[first - piece.start : end - piece.start]
            target[first - fragment.start : end - fragment.start].copy_(values)
            filled += end - first
        if filled != fragment.count:
            raise _damaged(f"it has {filled} of {fragment.count} values of a part of {fragment.name}")

    def _overlaps(self, fragment: Fragment) -> Iterator[tuple[int, int, _Piece]]:
        """Yield the ranges of the weight that a fragment needs, and the pieces that have them."""
        for piece in self._pieces[fragment.name]:
            first, end = max(piece.start, fragment.start), min(piece.end, fragment.start + fragment.count)
            if first < end:
                yield first, end, piece


def _key(name: str, kind: str) -> str:
    return f"{kind}/{name}"


def _damaged(what: str) -> StageError:
    remedy = "Remove the newest folder in train/checkpoints of the job's work, and run it again"
    return StageError(Reason.INTERNAL_ERROR, f"the checkpoint cannot be used: {what}", remedy)
