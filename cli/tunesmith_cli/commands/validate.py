"""`tunesmith validate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunesmith_cli.commands.manifests import load_valid
from tunesmith_cli.commands.rows import check_data
from tunesmith_cli.terminal.console import Exit, print_error, say


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
