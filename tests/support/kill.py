"""A job whose process is killed at random moments, and run again each time until it is complete."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StageCommand:
    """A stage as it is run and killed.

    Attributes:
        name: Its name.
        command: Its command line.
        marker: The file that says that it is complete.
        kills: Most kills of it in one job, so that no stage has them all.
        begun: A file that is written when the stage has started up and works; None where that is not told apart.
        progress: How much of its work the next attempt need not do again, 0 to 1.
    """

    name: str
    command: Sequence[str]
    marker: Path
    kills: int
    begun: Path | None = None
    progress: Callable[[], float] = lambda: 0.0

    def has_begun(self, since: float) -> bool:
        """Whether the stage works, in the attempt that was started at `since` (in time.time)."""
        return self.begun is not None and self.begun.exists() and self.begun.stat().st_mtime >= since


@dataclass(frozen=True)
class Duration:
    """What a stage takes undisturbed, in seconds: to start up, and to work."""

    startup: float
    work: float

    def shorter(self, other: "Duration") -> "Duration":
        """Return the shorter of both, startup and work each for itself."""
        return Duration(min(self.startup, other.startup), min(self.work, other.work))


def run_undisturbed(stages: Sequence[StageCommand], env: dict[str, str]) -> dict[str, Duration]:
    """Run all stages to their ends and return what each took."""
    durations = {}
    for stage in stages:
        took = _attempt(stage, env)
        assert took is not None
        durations[stage.name] = took
    return durations


def run_with_kills(
    stages: Sequence[StageCommand],
    work: Path,
    durations: dict[str, Duration],
    *,
    most: int,
    chance: random.Random,
    env: dict[str, str],
) -> list[str]:
    """Run all stages to their ends, killing attempts (SIGKILL) at random moments, and running them again.

    Args:
        stages: The stages, in order.
        work: The work folder; no process that was started for it may outlive a kill.
        durations: What each stage takes undisturbed. A moment is drawn between 0 and a little more than what an attempt
            should take, so that some attempts come through. Where starting up is told apart, three of four moments
            are drawn from the time of working. A stage that comes through sooner has its duration here made shorter:
            it may have been measured on a busier machine, where most moments would be later than the stage's end.
        most: Kills after which the stages are left alone.
        chance: Where the moments are drawn from.
        env: The environment of the commands.

    Returns:
        The name of the stage of each kill.
    """
    kills: list[str] = []
    for stage in stages:
        duration, left = durations[stage.name], stage.kills
        while not stage.marker.exists():
            left = min(left, most - len(kills))
            working = stage.begun is not None and chance.random() < 0.75
            span = duration.startup if stage.begun is not None and not working else duration.work
            moment = chance.uniform(0, 1.1 * span * (1 - 0.9 * stage.progress() * working))
            anew = stage.progress() == 0
            took = _attempt(stage, env, moment if left else None, working=working)
            if took is None:
                left -= 1
                kills.append(stage.name)
                wait_until_gone(work)
                since = "began to work" if working else "was started"
                print(f"{stage.name} killed {moment:.2f} s after it {since}, progress {stage.progress():.0%}")
            elif anew:
                durations[stage.name] = duration.shorter(took)
    return kills


def _attempt(
    stage: StageCommand, env: dict[str, str], moment: float | None = None, *, working: bool = False
) -> Duration | None:
    """Run one attempt, and kill it `moment` seconds after its start, or after it began to work.

    Returns:
        What it took, or None where it was killed.
    """
    started, begun = time.time(), None
    process = _start(stage, env)
    while process.poll() is None:
        if begun is None and stage.has_begun(started):
            begun = time.time()
        since = begun if working else started
        if moment is not None and since is not None and time.time() - since >= moment:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return None
        time.sleep(0.003)
    _finish(stage, process)
    ended, begun = time.time(), begun or started
    return Duration(begun - started, ended - begun)


def _start(stage: StageCommand, env: dict[str, str]) -> subprocess.Popen[bytes]:
    output = stage.marker.parent.parent / f"{stage.name}.output"
    with output.open("wb") as file:
        return subprocess.Popen(stage.command, env=env, stdout=file, stderr=subprocess.STDOUT)


def _finish(stage: StageCommand, process: subprocess.Popen[bytes]) -> None:
    output = stage.marker.parent.parent / f"{stage.name}.output"
    assert process.wait() == 0, f"{stage.name}: {output.read_text(errors='replace')}"


def processes_of(work: Path) -> list[int]:
    """Return the processes whose command line names the work folder, this one left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if os.fsencode(work) in arguments and state != "Z":
                found.append(int(entry.name))
    return found


def wait_until_gone(work: Path, seconds: float = 120) -> None:
    """Return once no process works on the folder; fail where one lives on."""
    deadline = time.monotonic() + seconds
    while left := processes_of(work):
        assert time.monotonic() < deadline, f"processes {left} have outlived their launcher"
        time.sleep(0.02)
