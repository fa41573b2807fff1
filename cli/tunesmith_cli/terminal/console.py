"""Output and exit codes of the command line."""

from __future__ import annotations

from enum import IntEnum

from rich.console import Console
from rich.markup import escape

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class Exit(IntEnum):
    """Exit codes of `tunesmith`, for people and scripts."""

    OK = 0
    FAILED = 1  # a job failed for good, or a server could not start
    INVALID = 2  # a manifest, an option or a file is wrong; nothing was run
    RETRY = 3  # the same command may succeed if run again
    INTERRUPTED = 130  # Ctrl-C; the same command resumes


class CliError(Exception):
    """An error for the user. The message says what is wrong and what to do about it.

    Attributes:
        code: The exit code to end with.
    """

    def __init__(self, message: str, code: Exit = Exit.INVALID) -> None:
        super().__init__(message)
        self.code = code


def say(text: str) -> None:
    """Print a line. Long lines are not wrapped, so that paths can be copied."""
    out.print(text, soft_wrap=True)


def title(kind: str, name: str, text: str) -> None:
    """Print a line about one object."""
    say(f"[bold]{kind} {escape(name)}[/bold]  {text}")


def print_error(text: str) -> None:
    """Print an error on standard error."""
    err.print(f"[bold red]error[/bold red] {escape(text)}", soft_wrap=True)
