"""Follows every tensor's memory in a process, exactly: each storage from the operation that makes it to its end."""

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocations(TorchDispatchMode):
    """While active, counts the bytes of all storages on a device. What a kernel takes for itself is not seen.

    Attributes:
        current: Bytes that are alive.
        peak: Most bytes that were alive at once.
        log: With `keep_log`, each change as (bytes, what).
    """

    def __init__(self, *, keep_log: bool = False) -> None:
        super().__init__()
        self.current = 0
        self.peak = 0
        self.log: list[tuple[int, str]] = []
        self._keep_log = keep_log
        self._sizes: dict[int, tuple[int, str, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            if isinstance(value, torch.Tensor) and value.device.type == "cpu":
                self._see(value, func)
        return result

    def see_all(self, tensors: Any) -> None:
        """Count tensors that were made before this was active."""
        for tensor in tensors:
            self._see(tensor, "before")

    def _see(self, tensor: torch.Tensor, func: object) -> None:
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):  # a tensor without memory of its own
            return
        size, key = storage.nbytes(), storage._cdata
        known = self._sizes.get(key)
        if known is not None and known[0] == size:
            return
        what = f"{func} {tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
        reference = known[2] if known else weakref.ref(storage, self._end(key))
        self._sizes[key] = (size, what, reference)
        self._change(size - (known[0] if known else 0), what)

    def _end(self, key: int) -> Callable[[object], None]:
        def end(_: object) -> None:
            size, what, _reference = self._sizes.pop(key)
            self._change(-size, what)

        return end

    def _change(self, size: int, what: str) -> None:
        self.current += size
        self.peak = max(self.peak, self.current)
        if self._keep_log:
            self.log.append((size, what))

    def at_peak(self) -> tuple[Counter[str], list[str]]:
        """Return the bytes that were alive at the peak by what made them, and what happened just before it."""
        alive: Counter[str] = Counter()
        current = best = 0
        found, place = Counter(alive), 0
        for index, (size, _) in enumerate(self.log):
            current += size
            if current > best:
                best, place = current, index
        for size, what in self.log[: place + 1]:
            alive[what] += size
        found = Counter({what: size for what, size in alive.items() if size > 0})
        return found, [f"{size / 1e6:+.2f} {what}" for size, what in self.log[max(0, place - 40) : place + 6]]
