"""Stops a job whose validation rows are its training rows: its metrics would measure memory."""

from __future__ import annotations

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.data.token_store import TokenStore

# A few equal rows are usual in real data, and are counted in the report. From here on the gates mean nothing.
MAX_SHARE = 0.5


def require_unseen(train: TokenStore, validation: TokenStore) -> None:
    """Fail if more than half of the validation rows are also training rows, token by token.

    Raises:
        StageError: INVALID_DATASET.
    """
    seen = {train[index][0].tobytes() for index in range(len(train))}
    equal = sum(validation[index][0].tobytes() in seen for index in range(len(validation)))
    if equal <= MAX_SHARE * len(validation):
        return
    raise StageError(
        Reason.INVALID_DATASET,
        f"{equal} of {len(validation)} validation rows are also training rows, so evaluation would measure what was "
        "memorised",
        "Give other rows in spec.dataset.validation.sources, or leave validation out: a part of the rows is then kept "
        "from training; remove duplicates first",
    )
