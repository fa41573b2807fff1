"""The order of the training rows: batches of similar lengths, independent of the number of processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_MEGA_BATCHES = 50  # global batches sorted by length together: enough for similar lengths, few enough to stay random


def training_order(lengths: npt.NDArray[Any], global_batch_size: int, total_steps: int, seed: int) -> npt.NDArray[Any]:
    """Return the row numbers of a whole run, in order of the steps.

    The rows of each epoch are shuffled, and the epochs are concatenated. The batches of an epoch are cut into
    chunks; within a chunk rows are sorted by length, so that the rows of a batch are about equally long, and the
    batches are shuffled again. Only a batch that spans the end of an epoch holds rows of two.

    Args:
        lengths: int [rows], the number of tokens of each row.
        global_batch_size: Rows of one step, over all processes.
        total_steps: Steps of the run.
        seed: Seed of the shuffling.

    Returns:
        int [total_steps * global_batch_size], in four bytes each if that is enough. Row numbers of step i are at
        [i * global_batch_size : (i + 1) * global_batch_size], in order of their lengths.
    """
    rows, needed = len(lengths), total_steps * global_batch_size
    epochs = -(-needed // rows)
    stream = np.empty(needed, np.int32 if rows <= np.iinfo(np.int32).max else np.int64)
    for epoch in range(epochs):
        part = stream[epoch * rows : (epoch + 1) * rows]
        part[:] = np.random.default_rng([seed, epoch]).permutation(rows)[: len(part)]
    batches = stream.reshape(total_steps, global_batch_size)
    random = np.random.default_rng([seed, epochs, rows])
    for start, end in _chunks(rows, global_batch_size, total_steps):
        chunk = batches[start:end].ravel()
        alike = chunk[np.argsort(lengths[chunk], kind="stable")].reshape(-1, global_batch_size)
        batches[start:end] = alike[random.permutation(len(alike))]
    return stream


def _chunks(rows: int, global_batch_size: int, total_steps: int) -> list[tuple[int, int]]:
    """Return the (first, end) batch numbers of the chunks that are sorted by length together."""
    chunks = []
    start = 0
    while start < total_steps:
        # A batch belongs to the epoch of its first row.
        epoch = start * global_batch_size // rows
        end = min(total_steps, -(-(epoch + 1) * rows // global_batch_size))
        parts = -(-(end - start) // _MEGA_BATCHES)
        bounds = np.linspace(start, end, parts + 1).round().astype(int).tolist()
        chunks += list(zip(bounds[:-1], bounds[1:], strict=True))
        start = end
    return chunks
