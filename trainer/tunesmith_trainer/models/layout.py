"""Which files of a repository or folder make up a model."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from tunesmith_trainer.models.checks import PICKLED, invalid, pickled_only

_WEIGHTS = ("model.safetensors", "model-*.safetensors")
_OTHERS = ("*.json", "*.jinja", "*.txt", "*.model")
NAMED_TEMPLATES = "additional_chat_templates"
"""Folder in which transformers keeps the chat templates beside the default one, as NAME.jinja."""


def wanted_files(name: str, files: list[str]) -> list[str]:
    """Return those files that a model is loaded from: safetensors, configuration, tokenizer, chat template.

    Other subfolders, which hold other formats of the same weights, are left out.

    Args:
        name: The model's name in messages.
        files: Paths relative to the model's folder.

    Raises:
        StageError: There are no weights as safetensors.
    """
    top = sorted(file for file in files if "/" not in file)
    weights = [file for file in top if any(fnmatch(file, pattern) for pattern in _WEIGHTS)]
    if not weights:
        if pickled := [file for file in top if file.endswith(PICKLED)]:
            raise pickled_only(name, pickled)
        if "config.json" not in top:
            raise invalid(name, "this is no model folder (config.json is missing)", "Check spec.model.uri")
        raise invalid(name, "there are no weights (model.safetensors)", "Take a revision with safetensors")
    templates = sorted(file for file in files if fnmatch(file, f"{NAMED_TEMPLATES}/*.jinja"))
    return weights + [file for file in top if any(fnmatch(file, pattern) for pattern in _OTHERS)] + templates


def local_files(folder: Path) -> list[str]:
    """Return the names of a local folder's files that its model is loaded from; raises what `wanted_files` does."""
    return wanted_files(str(folder), [path.name for path in folder.iterdir() if path.is_file()])


def link_files(folder: Path, target: Path, *, but: str | None = None) -> None:
    """Fill a folder with links to a model's files.

    Args:
        folder: The model.
        target: The folder to fill.
        but: A file to leave out.
    """
    for name in local_files(folder):
        if name != but:
            (target / name).symlink_to(folder.resolve() / name)


def is_weights(file: str) -> bool:
    """Return whether a model's file holds its weights, and not what is small."""
    return file.endswith(".safetensors")
