"""What a stage leaves behind."""

from pathlib import Path

from tunesmith_trainer.storage.files import sha256_tree

MEASURED = {"measured.json", "attempts.json"}
"""Files that differ from run to run: they say what the run took."""


def result_tree(folder: Path) -> dict:
    """Return the digests of all files of a stage but those of what was measured."""
    return {name: about for name, about in sha256_tree(folder).items() if name not in MEASURED}
