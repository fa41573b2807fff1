"""Loads the manifests that a command is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from tunesmith_api.manifests import Manifests, load_manifests
from tunesmith_cli.terminal.console import err, print_error


def load_valid(paths: Sequence[Path]) -> Manifests | None:
    """Return the manifests in files and folders. If any is invalid, print the findings and return None."""
    manifests = load_manifests(paths)
    for finding in manifests.findings:
        print_error(str(finding))
    for note in manifests.notes:
        err.print(f"[yellow]note[/yellow] {escape(str(note))}", soft_wrap=True)
    return None if manifests.findings else manifests
