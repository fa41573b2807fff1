"""Threads that work beside one another: the first error is raised, and ends the others."""

import threading

import pytest

from tunesmith_trainer.runtime.background import Background, Proceed, StoppedError, run_together


def until_stopped(proceed: Proceed) -> None:
    while True:
        proceed()
        threading.Event().wait(0.01)


def test_leaving_stops_the_work() -> None:
    stopped: list[str] = []

    def work(proceed: Proceed) -> None:
        try:
            until_stopped(proceed)
        except StoppedError:
            stopped.append("yes")
            raise

    with pytest.raises(KeyError, match="main"), Background("test", work):
        raise KeyError("main")
    assert stopped == ["yes"]


def test_what_the_work_fails_with_is_raised_in_the_main_thread() -> None:
    def work(proceed: Proceed) -> None:
        raise ValueError("in the thread")

    with Background("test", work) as running:
        with pytest.raises(ValueError, match="in the thread"):
            running.wait(300)
        with pytest.raises(ValueError, match="in the thread"):
            running.check()


def test_all_jobs_are_done_each_once() -> None:
    done: list[int] = []
    run_together([lambda _, number=number: done.append(number) for number in range(20)], threads=3)
    assert sorted(done) == list(range(20))
    run_together([])


def test_a_job_that_fails_ends_the_others() -> None:
    begun = threading.Event()

    def waits(proceed: Proceed) -> None:
        begun.set()
        until_stopped(proceed)

    def fails(proceed: Proceed) -> None:
        begun.wait(300)
        raise ValueError("first")

    never = pytest.fail
    with pytest.raises(ValueError, match="first"):
        run_together([waits, fails, lambda _: never("it was waiting when another failed")], threads=2)


def test_jobs_end_when_they_are_not_needed() -> None:
    def proceed() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_together([until_stopped, until_stopped], proceed)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("job-")]
