"""How long clients should wait when the queue is full."""

import math


class RetryEstimator:
    """Estimates `Retry-After` from how long requests take."""

    def __init__(self) -> None:
        self._mean_seconds = 1.0

    def finished(self, seconds: float) -> None:
        """Add a finished request to the moving average."""
        self._mean_seconds += 0.1 * (seconds - self._mean_seconds)

    def retry_after(self, queue_length: int, slots: int) -> int:
        """Return the whole seconds after which the queue should have room again (1 to 60)."""
        return max(1, min(60, math.ceil(self._mean_seconds * max(1, queue_length) / slots / 2)))
