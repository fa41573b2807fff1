"""What has happened to FineTuneJobs, in order, and what it shows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """What happened to a job, and when.

    Attributes:
        at: A number that grows: a time, or the revision of a store.
        act: `made`, `suspended`, `resumed`, `ended` or `deleted`.
        namespace: The job's namespace.
        name: Its name.
    """

    at: float
    act: str
    namespace: str
    name: str


def most_at_once(history: list[Entry]) -> dict[str, int]:
    """Return for each namespace how many jobs have run at the same moment, at most."""
    running: dict[str, set[str]] = {}
    most: dict[str, int] = {}
    for entry in history:
        now = running.setdefault(entry.namespace, set())
        if entry.act in ("made", "resumed"):
            now.add(entry.name)
        else:
            now.discard(entry.name)
        most[entry.namespace] = max(most.get(entry.namespace, 0), len(now))
    return most


def made_twice(history: list[Entry]) -> list[str]:
    """Return the jobs that were made more than once."""
    names = [entry.name for entry in history if entry.act == "made"]
    return sorted({name for name in names if names.count(name) > 1})


def left_at_the_end(history: list[Entry]) -> set[str]:
    """Return the jobs that are there at the end."""
    there: set[str] = set()
    for entry in history:
        if entry.act == "made":
            there.add(entry.name)
        elif entry.act == "deleted":
            there.discard(entry.name)
    return there
