"""The torch model's side of the comparison. It is kept on disk, so that only one model is in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.batches import length_bucketed_batches
from tunesmith_trainer.evaluate.generate import cached_tokens, greedy
from tunesmith_trainer.evaluate.logits import Logits, logits_of
from tunesmith_trainer.export.long_rows import long_row
from tunesmith_trainer.models.loading import context_length

MAX_ROW = 512
"""Tokens of a row that are compared."""
NEW_TOKENS = 32
"""Tokens that are generated greedily for each prompt."""
MIN_TARGETS = 256
"""If the given rows have fewer target tokens, more rows are compared."""
MAX_ROWS = 256
"""Most rows that are compared for that."""
MAX_LOGITS = 1 << 28
"""Logits that are kept: 1 GiB in fp32. With a large vocabulary not every position of the rows is compared."""

Kind = Literal["row", "long", "answer", "longAnswer"]


@dataclass(frozen=True)
class ReferenceRow:
    """A sequence with the positions whose logits are compared.

    Attributes:
        kind: `row` is a validation row, `long` one beyond the model's window or original rope length, `answer` a
            prompt with the tokens that torch generates, which the exported model decodes one by one with its cache,
            `longAnswer` the same for a long prompt.
        ids: Token ids.
        positions: The positions, ascending. The logits at a position predict the token after it.
        is_target: For each position, whether the token after it is a target.
        threshold: In a long row, the position from which the window or rope scaling matters. In an answer, the number
            of tokens in its prompt.
    """

    kind: Kind
    ids: list[int]
    positions: list[int]
    is_target: list[bool]
    threshold: int = 0


class TorchReference:
    """What the torch model computes, read from a folder.

    Attributes:
        rows: The compared sequences.
    """

    def __init__(self, folder: Path) -> None:
        self.rows = [ReferenceRow(**value) for value in json.loads((folder / "rows.json").read_text(encoding="utf-8"))]
        self._file = folder / "logits.npy"

    def of(self, kind: Kind) -> Iterator[tuple[ReferenceRow, Logits]]:
        """Yield each sequence of a kind with its logits, float32 [positions, vocabulary]."""
        start = 0
        for row in self.rows:
            end = start + len(row.positions)
            if row.kind == kind:
                # Mapped anew for each row: the pages of a mapped file count as memory while it stays mapped.
                yield row, np.load(self._file, mmap_mode="r", allow_pickle=False)[start:end]
            start = end

    @classmethod
    def record(cls, model: Any, store: TokenStore, prompts: Sequence[Sequence[int]], rows: int, folder: Path) -> None:  # noqa: ANN401
        """Compute the reference and write it to a folder.

        Args:
            model: The torch model.
            store: The validation rows.
            prompts: Token ids of prompts for greedy generation; the beginnings of the rows if there are none.
            rows: Rows to compare, from the first; more if they have few targets.
            folder: The folder to create.
        """
        folder.mkdir(parents=True, exist_ok=True)
        capacity = max(64, MAX_LOGITS // model.config.vocab_size)
        chosen = [*_rows(store, rows, capacity // 2), *_long_rows(model, store, capacity // 4)]
        chosen += _answers(model, store, prompts, rows, capacity // 4, chosen)
        (folder / "rows.json").write_text(json.dumps([asdict(row) for row in chosen]), encoding="utf-8")
        counts = [len(row.positions) for row in chosen]
        with (folder / "logits.npy").open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (sum(counts), model.config.vocab_size)}
            np.lib.format.write_array_header_1_0(file, header)
            begin = file.tell()
            for index, logits in logits_of(model, [row.ids for row in chosen], [row.positions for row in chosen]):
                file.seek(begin + sum(counts[:index]) * logits.shape[1] * logits.itemsize)
                file.write(np.ascontiguousarray(logits, "<f4").data)


def _rows(store: TokenStore, rows: int, capacity: int) -> list[ReferenceRow]:
    """Return validation rows: those asked for, and more while there are few targets."""
    pairs: list[tuple[list[int], npt.NDArray[np.bool_]]] = []
    targets = 0
    for index in range(min(len(store), max(rows, MAX_ROWS))):
        if index >= rows and targets >= MIN_TARGETS:
            break
        tokens, mask = store[index]
        is_target = np.append(mask[1:MAX_ROW].astype(bool), False)[: len(tokens)]
        targets += int(is_target.sum())
        pairs.append((tokens[:MAX_ROW].tolist(), is_target))
    if not targets:
        pairs = [(ids, np.arange(len(ids)) < len(ids) - 1) for ids, _ in pairs]
    share = max(1, capacity // max(1, len(pairs)))
    return [_select("row", ids, is_target, share) for ids, is_target in pairs]


def _select(
    kind: Kind, ids: list[int], is_target: npt.NDArray[np.bool_], share: int, first: int = 0, threshold: int = 0
) -> ReferenceRow:
    """Return a row with at most `share` positions from `first` on: targets before others, evenly spread."""
    targets = np.flatnonzero(is_target[first:]) + first
    others = np.flatnonzero(~is_target[first:]) + first
    kept = np.sort(np.concatenate([_spread(targets, share), _spread(others, share - len(targets))]))
    return ReferenceRow(kind, ids, kept.tolist(), is_target[kept].tolist(), threshold)


def _spread(values: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    """Return at most `count` of the values, evenly spread."""
    if count >= len(values):
        return values
    return values[np.linspace(0, len(values) - 1, max(0, count)).astype(int)]


def _long_rows(model: Any, store: TokenStore, capacity: int) -> list[ReferenceRow]:  # noqa: ANN401
    """Return the long row, with as many positions before its threshold as after it."""
    found = long_row(model.config, store, context_length(model))
    if found is None:
        return []
    ids, threshold = found.ids, found.threshold
    is_target = np.arange(len(ids)) < len(ids) - 1
    beyond = _select("long", ids, is_target, capacity // 2, threshold).positions
    within = range(max(0, threshold - len(beyond)), threshold)
    positions = [*within, *beyond]
    return [ReferenceRow("long", ids, positions, is_target[positions].tolist(), threshold)]


def _answers(
    model: Any,  # noqa: ANN401
    store: TokenStore,
    prompts: Sequence[Sequence[int]],
    rows: int,
    capacity: int,
    compared: Sequence[ReferenceRow],
) -> list[ReferenceRow]:
    """Return prompts with torch's greedy answers: of the given prompts, and of the long row."""
    room = context_length(model)
    starts = [list(prompt[:MAX_ROW]) for prompt in prompts[:rows]]
    starts = starts or [row.ids[: max(1, len(row.ids) // 2)] for row in compared if row.kind == "row"][:rows]
    starts = [start for start in starts if len(start) < room][: max(1, capacity // NEW_TOKENS)]
    long = [row.ids[: row.threshold + (len(row.ids) - row.threshold) // 2] for row in compared if row.kind == "long"]
    return [*_generate(model, "answer", starts, room), *_generate(model, "longAnswer", long, room)]


def _generate(model: Any, kind: Kind, starts: list[list[int]], room: int) -> Iterator[ReferenceRow]:  # noqa: ANN401
    """Yield prompts with torch's greedy answers.

    Args:
        model: The torch model.
        kind: The rows' kind.
        starts: Token ids of the prompts.
        room: Longest sequence that the model takes.
    """
    limits = [min(NEW_TOKENS, room - len(start)) for start in starts]
    widths = [len(start) + limit for start, limit in zip(starts, limits, strict=True)]
    answers: list[list[int]] = [[] for _ in starts]
    for batch in length_bucketed_batches(widths, len(starts), cached_tokens(model.config)):
        # Generation continues past EOS, so that short answers give enough tokens to compare.
        found = greedy(model, [starts[index] for index in batch], [limits[index] for index in batch], frozenset())
        for index, answer in zip(batch, found, strict=True):
            answers[index] = answer
    for start, answer in zip(starts, answers, strict=True):
        positions = list(range(len(start) - 1, len(start) + len(answer) - 1))
        yield ReferenceRow(kind, [*start, *answer], positions, [True] * len(answer), len(start))
