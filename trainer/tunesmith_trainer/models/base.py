"""The base model of a job, brought into the prepare stage's folder or used where it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_trainer.config import JobConfig, Reason, Stage, TrainerError, WorkFolder
from tunesmith_trainer.data.chat_templates import default_template
from tunesmith_trainer.data.progress import Progress
from tunesmith_trainer.files import digest_json, read_json, sha256_tree, write_json
from tunesmith_trainer.models.checks import check_model, load_tokenizer
from tunesmith_trainer.models.hf import download, resolve_commit
from tunesmith_trainer.models.layout import wanted_files
from tunesmith_trainer.models.scratch import build_scratch
from tunesmith_trainer.storage import fetch_folder, list_folder, local_path

Texts = Callable[[], Iterable[str]]


@dataclass(frozen=True)
class BaseModel:
    """A base model that is here, whole and checked.

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
        files = {name: info["sha256"] for name, info in sha256_tree(self.path).items() if not name.startswith(".")}
        return {
            "uri": self.uri,
            "revision": self.revision,
            "digest": digest_json(files),
            "path": self.path.relative_to(work.root).as_posix() if inside else str(self.path),
            "architecture": self.architecture,
        }


def bring_model(config: JobConfig, work: WorkFolder, texts: Texts, *, chat: bool) -> BaseModel:
    """Return the job's base model, fetched or made where needed.

    A local folder is used in place. Where it has no chat template and needs one, the prepared model is a folder of
    links to its files with the default template beside them, so that the user's own folder stays as it is.

    Args:
        config: The job.
        work: Its work folder.
        texts: Gives the texts on which a new tokenizer is trained.
        chat: Whether the rows are conversations, so that a chat template is needed.

    Raises:
        TrainerError: The model is not found, cannot be had now, or cannot be used.
    """
    model, target = config.spec.model, work.prepared_model
    uri = model.uri or "scratch"
    partial = work.stage(Stage.PREPARE) / ".model.partial"
    revision = None
    path = local_path(model.uri) if model.uri and not model.uri.startswith("hf://") else None
    if path is not None and not path.is_dir():
        problem = "this is a file, not a folder" if path.exists() else "no such folder"
        raise TrainerError(Reason.MODEL_NOT_FOUND, f"{uri}: {problem}", "Correct spec.model.uri")
    if uri.startswith("hf://"):
        revision = _pinned_commit(work, uri, model.revision)
    if path is None and not target.exists():
        if model.scratch is not None:
            shutil.rmtree(partial, ignore_errors=True)
            build_scratch(partial, model.scratch, texts(), config.spec.training.seed)
        elif revision is not None:
            download(uri, revision, partial)
        else:
            _fetch(uri, partial, work)
        _finish(partial, uri, config, chat)
        partial.replace(target)
    elif path is not None and not target.exists() and _finish(path, uri, config, False).chat_template is None and chat:
        _link(path, partial)
        _finish(partial, uri, config, chat)
        partial.replace(target)
    folder = target if target.exists() else path or target
    max_length = config.spec.training.max_length
    settings = check_model(folder, uri, max_length)
    tokenizer = load_tokenizer(folder, uri, settings["vocab_size"])
    return BaseModel(uri, revision, folder, settings["model_type"], tokenizer)


def _pinned_commit(work: WorkFolder, uri: str, revision: str | None) -> str:
    """Return the commit that a revision stands for; once found it stays, so that another run takes the same files."""
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
    """Make a folder of links to a model's files."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in wanted_files(str(folder), [path.name for path in folder.iterdir() if path.is_file()]):
        (target / name).symlink_to(folder.resolve() / name)


def _finish(folder: Path, uri: str, config: JobConfig, chat: bool) -> Any:  # noqa: ANN401 - transformers has no types
    """Check a model, give it a chat template where it has none and needs one, and return its tokenizer."""
    settings = check_model(folder, uri, config.spec.training.max_length)
    tokenizer = load_tokenizer(folder, uri, settings["vocab_size"])
    if chat and tokenizer.chat_template is None:
        (folder / "chat_template.jinja").write_text(default_template(tokenizer))
    return tokenizer
