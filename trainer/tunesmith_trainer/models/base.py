"""Fetches or creates a job's base model, and checks it. A local folder is used in place."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.data.chat_templates import default_template
from tunesmith_trainer.data.progress import Progress
from tunesmith_trainer.models.checks import check_model
from tunesmith_trainer.models.fingerprint import record
from tunesmith_trainer.models.hf import download, resolve_commit
from tunesmith_trainer.models.layout import wanted_files
from tunesmith_trainer.models.scratch import build_scratch
from tunesmith_trainer.models.tokenizer import load_tokenizer
from tunesmith_trainer.storage.files import read_json, write_json
from tunesmith_trainer.storage.filesystems import fetch_folder, list_folder
from tunesmith_trainer.storage.uris import local_path

Texts = Callable[[], Iterable[str]]
Check = Callable[[Path, str], tuple[dict[str, Any], Any]]


@dataclass(frozen=True)
class BaseModel:
    """A base model on the local disk, complete and checked.

    Attributes:
        uri: Where it came from; `scratch` for a new one.
        revision: The commit of an hf:// model.
        path: Its folder.
        architecture: transformers' model_type.
        tokenizer: Its tokenizer (transformers, fast).
    """

    uri: str
    revision: str | None
    path: Path
    architecture: str
    tokenizer: Any

    def describe(self, work: WorkFolder) -> dict[str, Any]:
        """Return the entry of the model in the stage's result; reads all files for the digest."""
        inside = self.path.is_relative_to(work.root)
        return {
            "uri": self.uri,
            "revision": self.revision,
            "digest": record(self.path, work),
            "path": self.path.relative_to(work.root).as_posix() if inside else str(self.path),
            "architecture": self.architecture,
        }


def obtain_model(
    config: JobConfig, work: WorkFolder, texts: Texts, *, chat: bool, architectures: Collection[str]
) -> BaseModel:
    """Return the job's base model. It is fetched or created if needed.

    A local folder is used in place. If it has no chat template but needs one, the prepared model is a folder of links
    to its files, with the default template beside them: the user's own folder is never changed.

    Args:
        config: The job.
        work: Its work folder.
        texts: Returns the texts on which a new tokenizer is trained.
        chat: Whether the rows are conversations, so that a chat template is needed.
        architectures: The supported architectures, by the names of their classes in transformers.

    Raises:
        StageError: The model does not exist, is unavailable at the moment, or cannot be used.
    """
    check = partial(_check, config=config, architectures=architectures)
    model = config.spec.model
    folder, uri, revision = work.prepared_model, model.uri or "scratch", None
    if model.scratch is not None:
        shutil.rmtree(folder, ignore_errors=True)  # the rows may have changed since an interrupted run made it
        scratch, seed = model.scratch, config.spec.training.seed
        _make(folder, uri, check, chat, lambda target: build_scratch(target, scratch, texts(), seed))
    elif uri.startswith("hf://"):
        revision = pinned_commit(work, uri, model.revision)
        commit = revision
        if not folder.exists():
            _make(folder, uri, check, chat, lambda target: download(uri, commit, target), keep=True)
    elif (local := local_path(uri)) is not None:
        if not local.is_dir():
            problem = "this is a file, not a folder" if local.exists() else "no such folder"
            raise StageError(Reason.MODEL_NOT_FOUND, f"{uri}: {problem}", "Correct spec.model.uri")
        if chat and check(local, uri)[1].chat_template is None:
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder, uri, check, chat, lambda target: _link(local, target))
        else:
            folder = local
    elif not folder.exists():
        _make(folder, uri, check, chat, lambda target: _fetch(uri, target, work), keep=True)
    settings, tokenizer = check(folder, uri)
    return BaseModel(uri, revision, folder, settings["model_type"], tokenizer)


def _make(
    target: Path, uri: str, check: Check, chat: bool, write: Callable[[Path], None], *, keep: bool = False
) -> None:
    """Write a model beside `target`, check it, and only then rename it to `target`.

    Args:
        target: The folder to create.
        uri: The model's name in messages.
        check: Checks the model in a folder and returns its config.json and tokenizer.
        chat: Whether to add a chat template if the model has none.
        write: Writes the model's files into a folder.
        keep: Whether `write` continues from the files that an interrupted run left in the folder.
    """
    unchecked = target.with_name(f".{target.name}.partial")
    if not keep:
        shutil.rmtree(unchecked, ignore_errors=True)
    unchecked.mkdir(parents=True, exist_ok=True)
    write(unchecked)
    _, tokenizer = check(unchecked, uri)
    if chat and tokenizer.chat_template is None:
        (unchecked / "chat_template.jinja").write_text(default_template(tokenizer))
    unchecked.replace(target)


def pinned_commit(work: WorkFolder, uri: str, revision: str | None) -> str:
    """Return the commit of a revision. It is recorded, so that a second run takes the same files."""
    path = work.stage(Stage.PREPARE) / "model-source.json"
    pinned = read_json(path)
    if pinned is None:
        pinned = {"uri": uri, "revision": resolve_commit(uri, revision)}
        write_json(path, pinned)
    return str(pinned["revision"])


def _fetch(uri: str, target: Path, work: WorkFolder) -> None:
    """Copy a model's files from an object store."""
    sizes = list_folder(uri)
    names = wanted_files(uri, list(sizes))
    with Progress(work, f"fetching {uri}", sum(sizes[name] for name in names), "bytes") as progress:
        fetch_folder(uri, target, names=names, report=progress.update)


def _link(folder: Path, target: Path) -> None:
    """Fill a folder with links to a model's files."""
    for name in wanted_files(str(folder), [path.name for path in folder.iterdir() if path.is_file()]):
        (target / name).symlink_to(folder.resolve() / name)


def _check(folder: Path, uri: str, config: JobConfig, architectures: Collection[str]) -> tuple[dict[str, Any], Any]:
    """Check a model, and return its config.json and its tokenizer."""
    settings = check_model(folder, uri, config.spec.training.max_length, architectures)
    return settings, load_tokenizer(folder, uri, settings["vocab_size"])
