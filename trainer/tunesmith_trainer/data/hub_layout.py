"""Finds the files of a configuration and split among the files of a data set on the Hugging Face hub.

The rules are those of the hub's documentation: `configs` in the card's metadata, else the names of files and folders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from tunesmith_trainer.data.errors import dataset_error
from tunesmith_trainer.data.readers import has_known_ending
from tunesmith_trainer.data.selection import match

_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
# Metadata of the hub and of the datasets library, not rows.
_METADATA = ("dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json", ".gitattributes")


def split_files(
    uri: str, files: Sequence[str], card: Mapping[str, Any], configuration: str | None, split: str | None
) -> list[str]:
    """Return the files of a split, sorted.

    Args:
        uri: The data set's name in messages.
        files: Paths of all files of the repository.
        card: The metadata of its README.md; may be empty.
        configuration: Name of the configuration; by default the default or the only one.
        split: Name of the split; by default `train`, or the only one.

    Raises:
        StageError: There is no such configuration or split, or there are no files with rows.
    """
    data = [file for file in files if has_known_ending(file) and PurePosixPath(file).name not in _METADATA]
    if not data:
        script = next((file for file in files if file.endswith(".py")), None)
        problem = f"it is made by a script ({script}), which is never run" if script else "it has no files with rows"
        raise dataset_error(
            uri, problem, "Try the hub's own conversion, revision: refs/convert/parquet, or download the data"
        )
    configs = card.get("configs")
    if isinstance(configs, list) and configs:
        splits = _declared(uri, data, [config for config in configs if isinstance(config, dict)], configuration)
    else:
        splits = _inferred(_in_configuration(uri, data, configuration))
    if split is None:
        split = "train" if "train" in splits or len(splits) != 1 else next(iter(splits))
    if not splits.get(split):
        known = ", ".join(name for name, found in splits.items() if found) or "none"
        raise dataset_error(uri, f"there is no split {split} (its splits: {known})", "Correct split in spec.dataset")
    return sorted(splits[split])


def _declared(
    uri: str, files: Sequence[str], configs: Sequence[Mapping[str, Any]], wanted: str | None
) -> dict[str, list[str]]:
    """Return the files of each split of a configuration that the card declares."""
    by_name = {str(config.get("config_name", "default")): config for config in configs}
    if wanted is None:
        marked = next((name for name, config in by_name.items() if config.get("default")), None)
        only = next(iter(by_name)) if len(by_name) == 1 else None
        wanted = marked or ("default" if "default" in by_name else only)
    if wanted is None or wanted not in by_name:
        names = ", ".join(by_name)
        problem = f"there is no configuration {wanted}" if wanted else "it has several configurations and no default"
        raise dataset_error(uri, f"{problem} (its configurations: {names})", "Write one of them as configuration")
    config = by_name[wanted]
    patterns = config.get("data_files")
    if patterns is None:
        folder = str(config.get("data_dir", "")).strip("/")
        return _inferred([file for file in files if not folder or file.startswith(f"{folder}/")])
    if isinstance(patterns, str) or (isinstance(patterns, list) and all(isinstance(item, str) for item in patterns)):
        patterns = [{"split": "train", "path": patterns}]
    splits: dict[str, list[str]] = {}
    for item in patterns if isinstance(patterns, list) else []:
        paths = item.get("path", []) if isinstance(item, dict) else []
        found = splits.setdefault(str(item.get("split", "train")) if isinstance(item, dict) else "train", [])
        for path in [paths] if isinstance(paths, str) else paths:
            found += [file for file in _matching(str(path), files) if file not in found]
    return splits


def _matching(path: str, files: Sequence[str]) -> list[str]:
    """Return the files that a path, a folder or a pattern of a card means."""
    path = path.removeprefix("./")
    return match(path, files) or match(f"{path.rstrip('/')}/**", files)


def _in_configuration(uri: str, files: Sequence[str], wanted: str | None) -> list[str]:
    """Return the files in the folder of a configuration."""
    if wanted in (None, "default"):
        return list(files)
    inside = [file for file in files if wanted in PurePosixPath(file).parts[:-1]]
    if not inside:
        folders = sorted({PurePosixPath(file).parts[0] for file in files if "/" in file})
        raise dataset_error(
            uri,
            f"there is no configuration {wanted} (its folders: {', '.join(folders) or 'none'})",
            "Correct or remove configuration in spec.dataset",
        )
    return inside


def _inferred(files: Sequence[str]) -> dict[str, list[str]]:
    """Return the files of each split, by the words in their paths; all are `train` if there is no such word."""
    splits: dict[str, list[str]] = {name: [] for name in _KEYWORDS}
    for file in files:
        words = re.split(r"[^a-z]+", file.lower())
        for name, keywords in _KEYWORDS.items():
            if any(keyword in words for keyword in keywords):
                splits[name].append(file)
                break
    if not any(splits.values()):
        return {"train": list(files)}
    return {name: found for name, found in splits.items() if found}
