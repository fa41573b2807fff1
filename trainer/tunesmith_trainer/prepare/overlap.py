"""Stops a job whose validation sources are its training data: its metrics would measure memory."""

from __future__ import annotations

import hashlib

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.data.token_store import TokenStore

# A few equal rows are usual in real data, and are counted in the report. From here on the gates mean nothing.
MAX_SHARE = 0.5


def require_unseen(train: TokenStore, validation: TokenStore) -> None:
    """Fail if more than half of the validation rows are also training rows, token by token.

    Raises:
        StageError: INVALID_DATASET.
    """
    seen = {_digest(train, index) for index in range(len(train))}
    equal = sum(_digest(validation, index) in seen for index in range(len(validation)))
    if equal <= MAX_SHARE * len(validation):
        return
    raise StageError(
        Reason.INVALID_DATASET,
        f"{equal} of {len(validation)} validation rows are also training rows, so evaluation would measure what was "
        "memorised",
        "Give other rows in spec.dataset.validation.sources, or leave validation out: a part of the rows is then kept "
        "from training",
    )


def _digest(store: TokenStore, index: int) -> bytes:
    return hashlib.blake2b(store[index][0].tobytes(), digest_size=16).digest()
