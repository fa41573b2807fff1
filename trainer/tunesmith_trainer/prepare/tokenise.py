"""Tokenises rows into the stores of training and validation rows, as a stream."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.data.encode import Encoded
from tunesmith_trainer.data.held_out import HeldOutRows
from tunesmith_trainer.data.progress import Progress
from tunesmith_trainer.data.row_locations import RowLocationsWriter
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.target_check import TargetCheck
from tunesmith_trainer.data.token_store import TokenStoreWriter

log = logging.getLogger(__name__)

_CHECKED_TARGETS = 1000  # rows of each store whose learned tokens are decoded and compared with the answers
EvaluationLine = Callable[[Any, Encoded, int, bool], dict[str, Any] | None]

_CUT = "Raise spec.training.maxLength, or shorten the rows"


class RowStore:
    """A store that is written with checked rows. Use it as a context manager.

    Attributes:
        writer: Writes the tokens.
        rows: Number of rows before they were shortened, split or skipped.
        encoder: The encoder of the rows.
    """

    def __init__(
        self,
        folder: Path,
        encoder: Any,  # noqa: ANN401 - see Task.encoder
        questions: Path | None = None,
        evaluation_line: EvaluationLine | None = None,
    ) -> None:
        """Create a store.

        Args:
            folder: The store's folder.
            encoder: The encoder of the rows.
            questions: The file evaluation.jsonl, where the rows are validation rows.
            evaluation_line: Makes its lines; see `Task.evaluation_line`.
        """
        self._evaluation_line = evaluation_line
        self.writer = TokenStoreWriter(folder)
        self._locations = RowLocationsWriter(folder)
        self.rows = 0
        self.encoder = encoder
        is_masked = getattr(encoder, "loss_on", "all") == "assistant"
        self._checks = TargetCheck(encoder.tokenizer) if is_masked else None
        self._questions: BinaryIO | None = questions.open("wb") if questions else None

    def add(self, pieces: list[Encoded]) -> None:
        """Add what a row has become.

        Raises:
            StageError: What would be learned is not what the row says.
        """
        self.rows += 1
        for piece in pieces:
            if self._checks and self.writer.rows < _CHECKED_TARGETS:
                for part in piece.parts:
                    self._checks.check(part)
            if self._questions is not None and self._evaluation_line is not None:
                line = self._evaluation_line(self.encoder, piece, self.writer.rows, piece is pieces[0])
                if line:
                    self._questions.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            self.writer.add(piece.ids, piece.mask, piece.targets)
            for part in piece.parts[1:]:
                self.writer.count(part.ids, part.mask)
            self._locations.add(piece.row.location)

    def require_rows(self) -> None:
        """Fail if all rows were skipped.

        Raises:
            StageError: INVALID_DATASET.
        """
        if self.writer.rows == 0:
            raise StageError(
                Reason.INVALID_DATASET,
                f"all {self.rows} rows of {self.writer.folder.name} are longer than {self.encoder.max_length} tokens "
                "and were skipped",
                _CUT,
            )

    def __enter__(self) -> RowStore:
        self.writer.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.writer.__exit__(kind, error, at)
        self._locations.__exit__(kind, error, at)
        if self._questions is not None:
            self._questions.close()


def tokenise(
    rows: Iterable[Row], held_out: HeldOutRows, train: RowStore | None, validation: RowStore, progress: Progress
) -> None:
    """Tokenise rows into their stores. They are read once.

    Args:
        rows: The rows.
        held_out: Those that are kept for validation.
        train: The store of the others; None if all rows are validation rows.
        validation: The store of the validation rows.
        progress: Counts the rows.

    Raises:
        StageError: A row cannot be used.
    """
    encoder = validation.encoder
    for number, pieces in enumerate(progress.over(encoder.encode(rows))):
        store = validation if train is None or number in held_out else train
        store.add(pieces)
