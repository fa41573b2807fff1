"""A job's base model: a new one is created, a local folder is used in place, a remote one is fetched beside."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.data.chat_templates import default_template
from tunesmith_trainer.models.checks import check_model, required_positions
from tunesmith_trainer.models.fingerprint import record
from tunesmith_trainer.models.layout import link_files
from tunesmith_trainer.models.remote import RemoteModel
from tunesmith_trainer.models.scratch import build_scratch
from tunesmith_trainer.models.tokenizer import load_tokenizer
from tunesmith_trainer.storage.uris import local_path

Texts = Callable[[], Iterable[str]]
Check = Callable[[Path, str], tuple[dict[str, Any], Any]]


@dataclass(frozen=True)
class BaseModel:
    """A base model on the local disk. It is complete and checked, or its weights are still coming.

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
    config: JobConfig,
    work: WorkFolder,
    texts: Texts,
    *,
    chat: bool,
    architectures: Collection[str],
    remote: RemoteModel | None = None,
) -> BaseModel:
    """Return the job's base model. It is created if needed; the weights of a remote one may still be coming.

    A local folder is used in place. If it has no chat template but needs one, the prepared model is a folder of links
    to its files, with the default template beside them: the user's own folder is never changed.

    Args:
        config: The job.
        work: Its work folder.
        texts: Returns the texts on which a new tokenizer is trained.
        chat: Whether the rows are conversations, so that a chat template is needed.
        architectures: The supported architectures, by the names of their classes in transformers.
        remote: The model, if it has to be fetched.

    Raises:
        StageError: The model does not exist, or cannot be used.
    """
    check = partial(_check, config=config, architectures=architectures)
    model = config.spec.model
    folder, uri = work.prepared_model, model.uri or "scratch"
    if remote is not None:
        tokenizer = remote.tokenizer
        if chat and tokenizer.chat_template is None:
            (remote.folder / "chat_template.jinja").write_text(default_template(tokenizer))
            tokenizer = load_tokenizer(remote.folder, uri, remote.settings["vocab_size"])
        return BaseModel(uri, remote.revision, remote.folder, remote.settings["model_type"], tokenizer)
    if model.scratch is not None:
        shutil.rmtree(folder, ignore_errors=True)  # the rows may have changed since an interrupted run made it
        scratch, seed = model.scratch, config.spec.training.seed
        _make(folder, uri, check, chat, lambda target: build_scratch(target, scratch, texts(), seed))
    elif (local := local_path(uri)) is not None:
        if not local.is_dir():
            problem = "this is a file, not a folder" if local.exists() else "no such folder"
            raise StageError(Reason.MODEL_NOT_FOUND, f"{uri}: {problem}", "Correct spec.model.uri")
        if chat and check(local, uri)[1].chat_template is None:
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder, uri, check, chat, lambda target: link_files(local, target))
        else:
            folder = local
    else:
        raise ValueError(f"{uri} has to be fetched")
    settings, tokenizer = check(folder, uri)
    return BaseModel(uri, None, folder, settings["model_type"], tokenizer)


def _make(target: Path, uri: str, check: Check, chat: bool, write: Callable[[Path], None]) -> None:
    """Write a model beside `target`, check it, and only then rename it to `target`.

    Args:
        target: The folder to create.
        uri: The model's name in messages.
        check: Checks the model in a folder and returns its config.json and tokenizer.
        chat: Whether to add a chat template if the model has none.
        write: Writes the model's files into a folder.
    """
    unchecked = target.with_name(f".{target.name}.partial")
    shutil.rmtree(unchecked, ignore_errors=True)
    unchecked.mkdir(parents=True, exist_ok=True)
    write(unchecked)
    _, tokenizer = check(unchecked, uri)
    if chat and tokenizer.chat_template is None:
        (unchecked / "chat_template.jinja").write_text(default_template(tokenizer))
    unchecked.replace(target)


def _check(folder: Path, uri: str, config: JobConfig, architectures: Collection[str]) -> tuple[dict[str, Any], Any]:
    """Check a model, and return its config.json and its tokenizer."""
    settings = check_model(folder, uri, required_positions(config.spec), architectures)
    return settings, load_tokenizer(folder, uri, settings["vocab_size"])
