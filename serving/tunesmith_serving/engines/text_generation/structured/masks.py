"""Computing which tokens may come next, on a thread beside the model."""

import threading
from collections.abc import Callable
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.float32]

# Below this share of the vocabulary, copying what is allowed is cheaper than setting what is not.
FEW = 16


class Mask:
    """The tokens that may come next.

    Attributes:
        empty: Whether there is none, because the vocabulary cannot write what must come next.
    """

    def __init__(self, bits: bytes, vocab_size: int) -> None:
        """Read llguidance's mask: one bit a token, in the order of their ids."""
        allowed = np.unpackbits(np.frombuffer(bits, np.uint8), count=vocab_size, bitorder="little").view(np.bool_)
        count = int(np.count_nonzero(allowed))
        self.empty = count == 0
        self._few = np.flatnonzero(allowed) if count * FEW < vocab_size else None
        self._forbidden = ~allowed if self._few is None else None

    def apply(self, logits: Row) -> None:
        """Set the logits of all other tokens, shape [vocabulary], to minus infinity in place."""
        if self._few is not None:
            kept = logits[self._few]
            logits.fill(-np.inf)
            logits[self._few] = kept
        elif self._forbidden is not None:
            np.putmask(logits, self._forbidden, np.float32(-np.inf))


class MaskThread:
    """One thread that computes masks in the order in which they are asked for; it starts with the first of them."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work`, which does not raise, on the thread."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="tunesmith-masks", daemon=True)
                    self._thread.start()
        self._queue.put(work)

    def _run(self) -> None:
        while True:
            self._queue.get()()
