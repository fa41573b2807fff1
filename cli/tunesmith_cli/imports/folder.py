"""Writes the manifests of a job and its data into a folder, which appears as a whole."""

from __future__ import annotations

import filecmp
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from tunesmith_api.manifests import load_manifests
from tunesmith_cli.imports.collect import Found
from tunesmith_cli.imports.errors import ImportFailedError
from tunesmith_cli.imports.golden import GoldenSet
from tunesmith_cli.imports.rows import RowFile, inspect, read_rows
from tunesmith_cli.imports.translate import Choices, Translation, translate

MOST_CONFIG_MAP_BYTES = 512 << 10
"""What is larger stays a file; a ConfigMap can hold 1 MiB."""

# What YAML takes for the end of a line, or does not allow.
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")

_NOT_A_LINE = re.compile(f"[\x00-\x1f{_NOT_YAML.pattern[1:]}")


def write_folder(found: Found, golden: GoldenSet | None, choices: Choices, out: Path, *, overwrite: bool) -> Path:
    """Write a job's folder, and return it.

    Args:
        found: The job and its files.
        golden: Answers of the model that it has made.
        choices: What the user chooses of the new job.
        out: Where the folder is made.
        overwrite: Replace a folder that differs, which somebody may have changed.

    Raises:
        ImportFailedError: The job cannot be translated, or there is another folder.
    """
    target = out / found.job.name
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".importing-", dir=out) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        _fill(made, found, golden, choices)
        if target.exists():
            if _is_equal(made, target):
                return target
            if not overwrite:
                raise ImportFailedError(f"{target} is there and differs; remove it, or write --overwrite")
            target.rename(Path(temporary) / "old")
        made.rename(target)
    return target


def _fill(made: Path, found: Found, golden: GoldenSet | None, choices: Choices) -> None:
    name = found.job.name
    files = [(path, f"train-{n}.jsonl" if n else "train.jsonl") for n, path in enumerate(found.training)]
    if found.validation is not None:
        files.append((found.validation, "validation.jsonl"))
    inspected = {path: inspect(path) for path, _ in files}
    if golden is not None:
        files.append((golden.path, "golden.jsonl"))
    is_small = sum(path.stat().st_size for path, _ in files) <= MOST_CONFIG_MAP_BYTES
    sources: dict[Path, dict[str, Any]] = {}
    for path, key in files:
        if is_small:
            sources[path] = {"configMapKeyRef": {"name": f"{name}-data", "key": key}}
        else:
            shutil.copyfile(path, made / key)
            sources[path] = {"uri": f"./{key}"}

    def with_source(path: Path) -> tuple[RowFile, dict[str, Any]]:
        return inspected[path], sources[path]

    translation = translate(
        found.job,
        choices,
        [with_source(path) for path in found.training],
        None if found.validation is None else with_source(found.validation),
        None if golden is None else (golden, sources[golden.path]),
    )
    if is_small:
        (made / "data.yaml").write_text(_config_map(f"{name}-data", files), encoding="utf-8")
    else:
        translation.missing.append("files on a cluster: upload train.jsonl and write its s3://, abfs:// or gs:// URI")
    text = _comments(found, translation) + yaml.safe_dump(translation.job, sort_keys=False, allow_unicode=True)
    (made / "finetunejob.yaml").write_text(text, encoding="utf-8")
    text = yaml.safe_dump(translation.workspace, sort_keys=False, allow_unicode=True)
    (made / "inferenceworkspace.yaml").write_text(text, encoding="utf-8")
    if findings := load_manifests([made]).findings:
        raise ImportFailedError(f"{found.job.id or name}: {'; '.join(item.message for item in findings)}")


def _comments(found: Found, translation: Translation) -> str:
    """Return what is said above a manifest."""
    lines = [f"Imported from {found.job.id or 'files of rows'}."]
    for heading, notes in (("Translated:", translation.translated), ("Without counterpart:", translation.missing)):
        if notes:
            lines += [heading, *(f"  {note}" for note in notes)]
    # What users have written is one line here, whatever is in it.
    return "".join(f"# {_NOT_A_LINE.sub(' ', line)}\n" for line in lines)


def _config_map(name: str, files: Sequence[tuple[Path, str]]) -> str:
    escape: Callable[[re.Match[str]], str] = lambda match: f"\\u{ord(match[0]):04x}"  # noqa: E731
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n"
    for path, key in files:
        text += f"  {key}: |\n"
        for _, row in read_rows(path):
            text += f"    {_NOT_YAML.sub(escape, json.dumps(row, ensure_ascii=False))}\n"
    return text


def _is_equal(one: Path, other: Path) -> bool:
    names = {path.name for path in one.iterdir()}
    if not other.is_dir() or names != {path.name for path in other.iterdir()}:
        return False
    return filecmp.cmpfiles(one, other, sorted(names), shallow=False)[1:] == ([], [])
