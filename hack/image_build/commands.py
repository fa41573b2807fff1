"""Runs other programs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from image_build.errors import BuildError


def answer(command: list[str]) -> str:
    """Return what a command prints; empty when it fails."""
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return result.stdout.strip() if result.returncode == 0 else ""


def failure(command: list[str], timeout: float) -> str:
    """Run a command; return the end of its output if it fails, or nothing."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout)
    except FileNotFoundError:
        return f"{command[0]} is not installed"
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout:g} s"
    return "" if result.returncode == 0 else (result.stderr.strip().splitlines() or ["no reason given"])[-1]


def run(command: list[str], environment: Mapping[str, str] | None = None) -> None:
    """Run a command, quiet unless it fails.

    Raises:
        BuildError: It failed; the message has the end of what it printed.
    """
    result = subprocess.run(
        command, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if result.returncode:
        raise BuildError(f"{' '.join(command[:1])} failed:\n{result.stdout[-4000:]}")
