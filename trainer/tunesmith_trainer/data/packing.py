"""Packs rows: the rows of a step are laid end to end in as few sequences as the token budget allows."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from tunesmith_trainer.data.targets import IGNORE_INDEX
from tunesmith_trainer.data.token_store import Example, TokenStore

Pack = list[Example]


def pack_step(lengths: Sequence[int], processes: int, budget: int, most: int) -> list[list[list[int]]]:
    """Return the packs of each process for the rows of a step: a pure function, so all processes agree on it.

    Every process gets the same number of packs, the smallest with which none is over the budget, and no pack is empty.
    Of the processes' packs that are computed at the same time, all have about the same number of tokens.

    Args:
        lengths: Tokens of each row, in order of length; their number is a multiple of `processes * most`.
        processes: Number of processes.
        budget: Most tokens of a pack: at least as many as `len(lengths) / processes / most` times the longest row.
        most: Most packs of a process.

    Returns:
        For each process its packs, each a list of indices into `lengths`.
    """
    for count in range(max(1, -(-sum(lengths) // (processes * budget))), most):
        bins = _spread(lengths, processes * count)
        if all(sum(lengths[row] for row in rows) <= budget for rows in bins):
            return _share(bins, lengths, processes)
    # As many rows in each pack as in a padded batch: that is within the budget, whatever their lengths.
    rows = len(lengths) // (processes * most)
    bins = [list(range(start, start + rows)) for start in range(0, len(lengths), rows)]
    return _share(bins, lengths, processes)


def _spread(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Return the rows in bins of about the same number of tokens: each row, from the longest, goes to the emptiest."""
    bins: list[list[int]] = [[] for _ in range(count)]
    heap = [(0, number) for number in range(count)]
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        tokens, number = heapq.heappop(heap)
        bins[number].append(row)
        heapq.heappush(heap, (tokens + lengths[row], number))
    return [sorted(rows) for rows in bins]


def _share(bins: list[list[int]], lengths: Sequence[int], processes: int) -> list[list[list[int]]]:
    """Return the bins of each process: those at the same place are alike, and who has the largest alternates."""
    ordered = sorted(bins, key=lambda rows: (-sum(lengths[row] for row in rows), rows))
    places = [ordered[start : start + processes] for start in range(0, len(ordered), processes)]
    return [
        [place[rank if number % 2 == 0 else -1 - rank] for number, place in enumerate(places)]
        for rank in range(processes)
    ]


class PackedDataset(Dataset[list[Pack]]):
    """The packs of each process for each step: item `step * processes + rank`.

    Attributes:
        store: The rows.
        steps: int64 [steps, rows of a step], row numbers; those of a step are in order of length.
        processes: Number of processes.
        budget: Most tokens of a pack.
        most: Most packs of a process in a step.
    """

    def __init__(
        self, store: TokenStore, order: npt.NDArray[np.int64], *, processes: int, most: int, micro_batch_size: int
    ) -> None:
        self.store = store
        self.processes = processes
        self.most = most
        self.steps = order.reshape(-1, processes * most * micro_batch_size)
        self.budget = micro_batch_size * int(store.lengths.max())

    def __len__(self) -> int:
        return len(self.steps) * self.processes

    def __getitem__(self, index: int) -> list[Pack]:
        return [[self.store[row] for row in pack] for pack in self.packs(index)]

    def packs(self, index: int) -> list[list[int]]:
        """Return the row numbers of each pack of an item."""
        step, rank = divmod(index, self.processes)
        rows = self.steps[step]
        lengths = [int(length) for length in self.store.offsets[rows + 1] - self.store.offsets[rows]]
        packs = pack_step(lengths, self.processes, self.budget, self.most)[rank]
        return [[int(rows[row]) for row in pack] for pack in packs]


class PackCollator:
    """Puts packs into tensors.

    Attributes:
        bucket: Returns the length that a pack of so many tokens is filled up to, so that lengths repeat.
        targets: Whether the model computes the loss itself (see `models/chunked_loss.py`).
    """

    def __init__(self, bucket: Callable[[int], int] = int, *, targets: bool) -> None:
        self.bucket = bucket
        self.targets = targets

    def __call__(self, items: Sequence[list[Pack]]) -> list[dict[str, Any]]:
        """Return the model's inputs and the labels of each pack of a process for one step, the only item."""
        (packs,) = items
        return [self.collate(pack) for pack in packs]

    def collate(self, pack: Pack) -> dict[str, Any]:
        """Return the inputs of one pack.

        `input_ids` and `position_ids` are int64 [1, tokens]; positions begin at 0 in each row. `cu_seq_lens_q`, int32
        [rows + 1], says where rows begin and the last one ends, and `max_length_q` how long the longest is: the names
        that transformers' attention functions have for them. `logits_to_keep` and `labels` are as of `Collator`: int64
        [targets] and [1, targets]. What a pack is filled up with is a row of its own without targets.
        """
        lengths = [len(ids) for ids, _ in pack]
        used = sum(lengths)
        if rest := self.bucket(used) - used:
            lengths.append(rest)
        bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        input_ids = np.zeros(bounds[-1], np.int64)
        labels = np.full(bounds[-1], IGNORE_INDEX, np.int64)
        for start, (ids, mask) in zip(bounds, pack, strict=False):
            input_ids[start : start + len(ids)] = ids
            labels[start : start + len(ids) - 1] = np.where(mask[1:], ids[1:], IGNORE_INDEX)
        positions = np.arange(bounds[-1]) - np.repeat(bounds[:-1], lengths)
        kept = np.flatnonzero(labels != IGNORE_INDEX)
        kept = torch.from_numpy(kept if len(kept) else np.zeros(1, np.int64))
        ends = torch.from_numpy(bounds)
        batch = {
            "input_ids": torch.from_numpy(input_ids)[None],
            "position_ids": torch.from_numpy(positions)[None],
            "cu_seq_lens_q": ends,
            "cu_seq_lens_k": ends,
            "max_length_q": max(lengths),
            "max_length_k": max(lengths),
            "logits_to_keep": kept,
            "labels": torch.from_numpy(labels)[None, kept],
        }
        return {**batch, "targets": batch["labels"]} if self.targets else batch
