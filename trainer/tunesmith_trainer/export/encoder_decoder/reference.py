"""The torch model's side of the comparison, in the files that `export.reference.TorchReference` reads.

A sequence is the source, the start token and the target, one after the other; the compared positions are those of the
start token and of the target but its last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.encoder_decoder import greedy, target_logits
from tunesmith_trainer.export.reference import MAX_LOGITS, MIN_TARGETS, NEW_TOKENS, Kind, ReferenceRow
from tunesmith_trainer.models.encoder_decoder import answer_tokens_of, most_tokens
from tunesmith_trainer.models.loading import without_adapter
from tunesmith_trainer.models.widening import in_float32

_MAX_TARGET = 128  # tokens of a target that are compared
_LONG = 200  # tokens of the long row: T5's positions differ up to 128 apart, and more than that are alike


def record(model: Any, store: TokenStore, rows: int, folder: Path) -> None:  # noqa: ANN401
    """Compute the reference and write it to a folder.

    Compared are validation rows, more than asked for if they have few targets; a long row that is made of several; and
    greedy answers.

    Args:
        model: The torch model.
        store: The validation rows, whose targets are token ids.
        rows: Rows to compare, from the first.
        folder: The folder to create.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = without_adapter(model)
    start, vocabulary = answer_tokens_of(model).start, model.get_output_embeddings().out_features
    capacity = max(64, MAX_LOGITS // vocabulary)
    pairs = _pairs(store, rows, capacity // 2)
    chosen = [_row("row", source, target, start, is_target=True) for source, target in pairs]
    chosen += [_row("row", *_long_pair(store, most_tokens(model.config)), start, is_target=False)]
    sources = [source for source, _ in pairs[: max(1, min(rows, capacity // 4 // NEW_TOKENS))]]
    answers = greedy(model, sources, [NEW_TOKENS] * len(sources), stops=False)
    chosen += [
        _row("answer", source, answer, start, is_target=True) for source, answer in zip(sources, answers, strict=True)
    ]
    (folder / "rows.json").write_text(json.dumps([asdict(row) for row in chosen]), encoding="utf-8")
    shape = (sum(len(row.positions) for row in chosen), vocabulary)
    with (folder / "logits.npy").open("wb") as file, in_float32(model):
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for row in chosen:
            source, inputs = split(row)
            logits = target_logits(model, [source], [inputs])[0].float().cpu().numpy()
            file.write(np.ascontiguousarray(logits, "<f4").data)


def split(row: ReferenceRow) -> tuple[list[int], list[int]]:
    """Return the source of a sequence, and the tokens that the decoder is given."""
    begin = row.positions[0]
    return row.ids[:begin], row.ids[begin:-1]


def targets_of(store: TokenStore, index: int) -> list[int]:
    """Return the target tokens of a row."""
    return [int(token) for token in store[index][2]]  # type: ignore[misc]  # the rows of a store with targets


def _row(kind: Kind, source: list[int], target: list[int], start: int, *, is_target: bool) -> ReferenceRow:
    first = len(source)
    positions = list(range(first, first + len(target)))
    return ReferenceRow(kind, [*source, start, *target], positions, [is_target] * len(target), first + 1)


def _pairs(store: TokenStore, rows: int, capacity: int) -> list[tuple[list[int], list[int]]]:
    """Return the tokens of the first sources and targets: of as many rows as asked for, more if the targets are few."""
    found: list[tuple[list[int], list[int]]] = []
    count = 0
    for index in range(len(store)):
        if (index >= rows and count >= MIN_TARGETS) or count >= capacity:
            break
        target = targets_of(store, index)[: min(_MAX_TARGET, capacity - count)]
        count += len(target)
        found.append((store[index][0].tolist(), target))
    return found


def _long_pair(store: TokenStore, most: int | None) -> tuple[list[int], list[int]]:
    """Return a source and a target that are as long as the model takes, or long enough, made of those of the rows."""
    size = min(_LONG, most or _LONG)

    def tokens(of_targets: bool) -> Iterator[int]:
        while True:
            for index in range(len(store)):
                yield from targets_of(store, index) if of_targets else store[index][0].tolist()

    sides = (tokens(False), tokens(True))
    source, target = ([next(side) for _ in range(size)] for side in sides)
    return source, target
