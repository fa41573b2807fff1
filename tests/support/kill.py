"""A job whose process is killed at random moments, and run again each time until it is complete."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


def never() -> float:
    """Progress of a stage that starts over each time."""
    return 0.0


@dataclass(frozen=True)
class StageCommand:
    """A stage as it is run and killed.

    Attributes:
        name: Its name.
        command: Its command line.
        marker: The file that says that it is complete.
        progress: How much of its work the next attempt need not do again, 0 to 1.
    """

    name: str
    command: Sequence[str]
    marker: Path
    progress: Callable[[], float] = never


def run_undisturbed(stages: Sequence[StageCommand], env: dict[str, str]) -> dict[str, float]:
    """Run all stages to their ends and return `{name: seconds}`."""
    seconds = {}
    for stage in stages:
        started = time.monotonic()
        done = subprocess.run(stage.command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{stage.name}: {done.stderr}"
        seconds[stage.name] = time.monotonic() - started
    return seconds


def run_with_kills(
    stages: Sequence[StageCommand],
    work: Path,
    seconds: dict[str, float],
    *,
    most: int,
    chance: random.Random,
    env: dict[str, str],
) -> list[tuple[str, float]]:
    """Run all stages to their ends, killing each attempt (SIGKILL) at a random moment, and running it again.

    Args:
        stages: The stages, in order.
        work: The work folder; no process that was started for it may outlive a kill.
        seconds: What each stage takes undisturbed. A moment is drawn between 0 and 1.4 times of what an attempt should
            take, so that some attempts come through.
        most: Kills after which the stages are left alone.
        chance: Where the moments are drawn from.
        env: The environment of the commands.

    Returns:
        The stages that were killed, and after how many seconds.
    """
    kills: list[tuple[str, float]] = []
    for stage in stages:
        while not stage.marker.exists():
            moment = chance.uniform(0, 1.4 * seconds[stage.name] * (1 - 0.6 * stage.progress()))
            attempt = subprocess.Popen(
                stage.command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            try:
                _, stderr = attempt.communicate(timeout=moment if len(kills) < most else None)
            except subprocess.TimeoutExpired:
                attempt.send_signal(signal.SIGKILL)
                # Not communicate: a child that lived on would hold the pipe.
                attempt.wait()
                assert attempt.stderr is not None
                attempt.stderr.close()
                wait_until_gone(work)
                kills.append((stage.name, moment))
                print(f"{stage.name} killed after {moment:.2f} s, progress {stage.progress():.0%}")
                continue
            assert attempt.returncode == 0, f"{stage.name}: {stderr}"
    return kills


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


def wait_until_gone(work: Path, seconds: float = 10) -> None:
    """Return once no process works on the folder; fail where one lives on."""
    deadline = time.monotonic() + seconds
    while left := processes_of(work):
        assert time.monotonic() < deadline, f"processes {left} have outlived their launcher"
        time.sleep(0.02)
