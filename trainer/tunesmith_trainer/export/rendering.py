"""Template parity: the server makes the same tokens of a request as training saw before the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.prompts import RowRequest

MAX_ROWS = 1000
"""Validation rows that are compared, from the first."""
_SHOWN = 8  # tokens shown around a difference


@dataclass
class _Counts:
    rows: int = 0
    tokens: int = 0
    boundary_rows: int = 0


def compare_rendering(
    requests: Sequence[RowRequest],
    answers: Sequence[Mapping[str, Any]],
    store: TokenStore,
    tokenizer: Any,  # noqa: ANN401 - a transformers tokenizer
) -> dict[str, int]:
    """Compare the server's token ids of requests with the tokens of the rows that they were made from.

    A row's tokens begin with those of its request, and the answer's first target is the token after them. In one case
    they differ rightly: where the beginning of the answer and the end of the prompt are a single token in the row.

    Args:
        requests: Requests made from rows.
        answers: The server's answers, each with `promptIds` or `error`.
        store: The rows.
        tokenizer: The model's tokenizer, to show differences.

    Returns:
        `rows` and `tokens` compared, and `boundaryRows`, the rows with a token across the end of the prompt.

    Raises:
        StageError: PARITY_FAILED, with the first difference.
    """
    counts = _Counts()
    for request, answer in zip(requests, answers, strict=True):
        if "error" in answer:
            raise StageError(
                Reason.PARITY_FAILED,
                f"{request.location} (validation row {request.row}): the server refuses what training accepted: "
                f"{answer['error']}",
                "Change the row, or the model's chat_template.jinja",
            )
        served = list(answer["promptIds"])
        tokens, mask = store[request.row]
        trained = tokens.tolist()
        if "prompt" in request.request:
            if request.request["prompt"].startswith(tokenizer.bos_token or "\0") and served[:2] == served[:1] * 2:
                # The text has its BOS already, and the tokenizer adds one. A row has it once or twice.
                served = served[1:] if trained[:2] != served[:2] else served
            served = served[: len(trained)]  # a long text is cut into several rows
            problem = _first_difference(trained, served, None)
        else:
            problem = _first_difference(trained, served, None if mask.all() else mask.tolist())
        if problem is not None and _merges_at_boundary(trained, served, problem, tokenizer):
            counts.boundary_rows += 1
        elif problem is not None:
            raise _failure(request, trained, served, problem, tokenizer)
        counts.rows += 1
        counts.tokens += len(served)
    return {"rows": counts.rows, "tokens": counts.tokens, "boundaryRows": counts.boundary_rows}


def _first_difference(trained: list[int], served: list[int], mask: list[int] | None) -> int | None:
    """Return the position at which a row does not continue the served prompt, or None if it does.

    Args:
        trained: The row's tokens.
        served: The server's tokens of the prompt.
        mask: The row's loss mask; None if it does not tell where the answer begins.
    """
    for position, token in enumerate(served):
        if position >= len(trained) or trained[position] != token:
            return position
    if mask is not None:
        after = next((index for index, is_target in enumerate(mask) if is_target and index >= len(served)), None)
        # Without a later target the last answer is not learned, as by a weight of 0.
        if (after is not None and after != len(served)) or (served and mask[len(served) - 1]):
            return len(served)
    return None


def _merges_at_boundary(trained: list[int], served: list[int], position: int, tokenizer: Any) -> bool:  # noqa: ANN401
    """Return whether one token of the row has all of the prompt's rest, and the beginning of the answer."""
    if not position < min(len(served), len(trained)):
        return False
    rest = tokenizer.decode(served[position:], skip_special_tokens=False)
    merged = tokenizer.decode(trained[position : position + 1], skip_special_tokens=False)
    return bool(rest) and len(merged) > len(rest) and bool(merged.startswith(rest))


def _failure(request: RowRequest, trained: list[int], served: list[int], position: int, tokenizer: Any) -> StageError:  # noqa: ANN401
    def around(ids: list[int]) -> str:
        part = ids[max(0, position - _SHOWN) : position + _SHOWN]
        return f"{part} {tokenizer.decode(part, skip_special_tokens=False)!r}"

    return StageError(
        Reason.PARITY_FAILED,
        f"{request.location} (validation row {request.row}): the server makes other tokens of the request than "
        f"training saw, from token {position} on: training {around(trained)}, the server {around(served)}",
        "Give the model a chat_template.jinja that depends on nothing but messages, add_generation_prompt and its "
        "special tokens, and a tokenizer.json that renders alike in transformers and tokenizers",
    )
