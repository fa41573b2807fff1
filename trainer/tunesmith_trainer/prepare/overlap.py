"""Stops a job whose validation sources are its training data: its metrics would measure memory."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.data.report.first_rows import FirstRows, count_parts, in_part
from tunesmith_trainer.data.token_store import read_rows
from tunesmith_trainer.storage.number_column import NumberColumn

# A few equal rows are usual in real data, and are counted in the report. From here on the gates mean nothing.
MAX_SHARE = 0.5


def require_unseen(train: Path, validation: Path) -> None:
    """Fail if more than half of the validation rows are also training rows, token by token.

    Args:
        train: Folder of the store of the training rows.
        validation: Folder of the store of the validation rows.

    Raises:
        StageError: INVALID_DATASET.
    """
    trained, validated = _digests(train), _digests(validation)
    equal = 0
    parts = count_parts(len(trained))
    for part in range(parts):
        seen = FirstRows()
        for start, keys in trained.chunks():
            places = in_part(keys, part, parts)
            seen.add(keys[places], places + start)
        equal += sum(int((seen.find(keys[in_part(keys, part, parts)]) >= 0).sum()) for _, keys in validated.chunks())
    if equal <= MAX_SHARE * len(validated):
        return
    raise StageError(
        Reason.INVALID_DATASET,
        f"{equal} of {len(validated)} validation rows are also training rows, so evaluation would measure what was "
        "memorised",
        "Give other rows in spec.dataset.validation.sources, or leave validation out: a part of the rows is then kept "
        "from training",
    )


def _digests(store: Path) -> NumberColumn:
    """Return a hash of the tokens of each row."""
    digests = NumberColumn("Q", store.parent)
    for tokens in read_rows(store):
        digest = hashlib.blake2b(tokens.tobytes(), digest_size=8).digest()
        digests.append(int.from_bytes(digest, "little"))
    return digests
