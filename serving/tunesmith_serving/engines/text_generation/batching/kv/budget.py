"""How much memory keys and values may take: bounded by what is free, not by slots times context."""

from dataclasses import dataclass

from tunesmith_serving.runtime.errors import MemoryShortageError

SMALLEST_CONTEXT = 16
# Shares of what is free once the model is loaded; the rest is for what a step computes and for the server's requests.
_ROWS_SHARE, _PREFIX_SHARE = 0.5, 0.25
_LARGEST_DEFAULT = 4 << 30
_DEFAULT_IF_UNKNOWN = 256 << 20


@dataclass(frozen=True)
class KvMemory:
    """The memory of keys and values.

    Attributes:
        row_tokens: Tokens of all running requests together.
        prefix_bytes: Bytes of the prefix cache.
        draft_prefix_bytes: Bytes of the draft model's prefix cache.
    """

    row_tokens: int
    prefix_bytes: int
    draft_prefix_bytes: int = 0


def plan_memory(
    free: int | None,
    token_bytes: int,
    slots: int,
    context_length: int,
    prefix_bytes: int | None,
    draft_token_bytes: int = 0,
) -> KvMemory:
    """Divide the free memory.

    Args:
        free: Bytes that are free once the model is loaded; None if that is not known.
        token_bytes: Bytes of the keys and values of one token.
        slots: Requests that run at the same time.
        context_length: The most tokens of one request.
        prefix_bytes: What the prefix cache is to have; None for a share of what is free.
        draft_token_bytes: Bytes of a draft model's keys and values of one token. Both models hold the same tokens.

    Raises:
        MemoryShortageError: The prefix cache is to have more than is free, or no request fits.
    """
    most = slots * context_length
    if free is None:
        return _divided(
            most, _DEFAULT_IF_UNKNOWN if prefix_bytes is None else prefix_bytes, token_bytes, draft_token_bytes
        )
    if prefix_bytes is None:
        prefix_bytes = min(int(free * _PREFIX_SHARE), _LARGEST_DEFAULT)
        rows = int(free * _ROWS_SHARE)
    else:
        rows = int((free - prefix_bytes) * _ROWS_SHARE / (1 - _PREFIX_SHARE))
    tokens = min(most, rows // (token_bytes + draft_token_bytes))
    if tokens < min(SMALLEST_CONTEXT, context_length):
        raise MemoryShortageError(
            f"{_mib(free)} are free once the model is loaded, of which the prefix cache is to have "
            f"{_mib(prefix_bytes)}: what is left is too little for the keys and values of one request; "
            "give the server more memory or lower prefixCacheMemory"
        )
    return _divided(tokens, prefix_bytes, token_bytes, draft_token_bytes)


def _divided(row_tokens: int, prefix_bytes: int, token_bytes: int, draft_token_bytes: int) -> KvMemory:
    """Return the memory, with prefix caches that hold as many tokens of the one model as of the other."""
    draft = prefix_bytes * draft_token_bytes // (token_bytes + draft_token_bytes)
    return KvMemory(row_tokens, prefix_bytes - draft, draft)


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
