"""`tunesmith validate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from tunesmith_api.manifests import Manifests, load_manifests
from tunesmith_cli.commands.rows import check_data
from tunesmith_cli.terminal.console import Exit, err, print_error, say


def load_valid(paths: Sequence[Path]) -> Manifests | None:
    """Return the manifests in files and folders. If any is invalid, print the findings and return None."""
    manifests = load_manifests(paths)
    for finding in manifests.findings:
        print_error(str(finding))
    for note in manifests.notes:
        err.print(f"[yellow]note[/yellow] {escape(str(note))}", soft_wrap=True)
    return None if manifests.findings else manifests


def validate_manifests(paths: Sequence[Path], *, data: bool = True) -> Exit:
    """Check manifests, print what is found, and return the exit code.

    Args:
        paths: Manifests, or folders of them.
        data: Also check the rows of data files on this machine.
    """
    manifests = load_valid(paths)
    if manifests is None:
        return Exit.INVALID
    if data and check_data(manifests) is not Exit.OK:
        return Exit.INVALID
    for item in (*manifests.fine_tune_jobs, *manifests.inference_workspaces):
        say(f"{item.kind} {item.metadata.namespace or 'default'}/{item.metadata.name} is valid")
    if not manifests.fine_tune_jobs and not manifests.inference_workspaces:
        print_error("no FineTuneJob or InferenceWorkspace in " + ", ".join(map(str, paths)))
        return Exit.INVALID
    return Exit.OK
