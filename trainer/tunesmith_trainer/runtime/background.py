"""Work in threads that end each other: when one fails, the others stop soon, and the first error is the one raised."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from tunesmith_api.failures import Reason, StageError

Proceed = Callable[[], None]
"""Called again and again by work that takes long; raises an error if the work is to stop."""

_POLL = 0.1  # seconds
_PATIENCE = 5.0  # seconds that a thread gets to stop; it may wait for a server


class StoppedError(StageError):
    """The work is not needed any more, because something else has failed."""

    def __init__(self) -> None:
        super().__init__(Reason.INTERRUPTED, "stopped, because something else has failed", "Run it again to resume")


class Background:
    """Work in a thread of its own. Use it as a context manager: leaving it stops the work.

    The thread does not keep the process alive, even where it waits for a server.
    """

    def __init__(self, name: str, work: Callable[[Proceed], None]) -> None:
        """Create the thread.

        Args:
            name: Its name.
            work: What it does; it is given what it has to call again and again.
        """
        self._work = work
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        try:
            self._work(self._proceed)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._error = error

    def _proceed(self) -> None:
        if self._stop.is_set():
            raise StoppedError

    def check(self) -> None:
        """Raise the error with which the work has failed, if it has."""
        if self._error is not None:
            raise self._error

    def wait(self, seconds: float) -> bool:
        """Wait for at most so long, and return whether the work is done.

        Raises:
            BaseException: What the work has failed with.
        """
        self._thread.join(seconds)
        self.check()
        return not self._thread.is_alive()

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(_PATIENCE)


def run_together(
    jobs: Sequence[Callable[[Proceed], None]], proceed: Proceed = lambda: None, *, threads: int = 4
) -> None:
    """Run jobs, several at a time, until all are done.

    Args:
        jobs: The jobs. Each is given what it has to call again and again.
        proceed: Called meanwhile; if it raises an error, the jobs stop.
        threads: How many run at a time.

    Raises:
        BaseException: The first error of a job, or of `proceed`.
    """
    if len(jobs) == 1:
        return jobs[0](proceed)
    waiting, lock = iter(jobs), threading.Lock()

    def work(step: Proceed) -> None:
        while True:
            step()
            with lock:
                job = next(waiting, None)
            if job is None:
                return
            job(step)

    running = [Background(f"job-{number}", work) for number in range(min(threads, len(jobs)))]
    for job in running:
        job.__enter__()
    try:
        while any([not job.wait(_POLL / len(running)) for job in running]):
            proceed()
    finally:
        for job in running:
            job._stop.set()
        for job in running:
            job.__exit__(None, None, None)
    return None
