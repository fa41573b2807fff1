"""Reads Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith_trainer.data.errors import dataset_error

_BUFFER = 1 << 20  # bytes of a column
_BATCH = 256  # rows
_REWRITE = "Copy the file again, or write it anew (pyarrow.parquet.write_table)"


def read_parquet(path: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(FILE: row N, row)` of a Parquet file, with one batch of rows in memory at a time."""
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        # With a buffer, columns are read page by page; without, a whole row group of each is read at a time.
        with parquet.ParquetFile(path, buffer_size=_BUFFER) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{name}: row {number}", row
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        problem = " ".join(str(error).split())[:300]
        where = f"{name}: row {number + 1}" if number else name
        raise dataset_error(where, f"the Parquet file cannot be read: {problem}", _REWRITE) from None
