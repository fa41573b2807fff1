"""Fetches a base model while the rows are prepared: what is small first, the weights beside everything else."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.data.progress import Progress
from tunesmith_trainer.models.checks import check_small_files, check_weight_files, required_positions
from tunesmith_trainer.models.hf import download, list_files, pinned_commit
from tunesmith_trainer.models.layout import is_weights, wanted_files
from tunesmith_trainer.models.tokenizer import load_tokenizer
from tunesmith_trainer.models.weights_check import Architecture, check_weights, read_architecture
from tunesmith_trainer.runtime.background import Background, Proceed
from tunesmith_trainer.runtime.disk import human
from tunesmith_trainer.storage.downloads import fetch_folder, stoppable
from tunesmith_trainer.storage.files import sweep
from tunesmith_trainer.storage.filesystems import Report, list_folder
from tunesmith_trainer.storage.uris import local_path

_POLL = 0.2  # seconds

CheckConfiguration = Callable[[dict[str, Any], str], None]
"""Given a configuration as transformers writes it and the model's name, raises a StageError if it cannot be used."""

StoredClass = Callable[[Mapping[str, Any]], Any]
"""Given a config.json, returns the class of transformers whose tensors the model's files hold."""


class _Source(Protocol):
    """Where a model's files are.

    Attributes:
        revision: The commit, where there is one.
    """

    revision: str | None

    def files(self) -> list[str]:
        """Return the paths of all files."""

    def fetch(self, names: Sequence[str], folder: Path, report: Report) -> None:
        """Fetch files into a folder, or what is missing of them."""


class _Hub:
    """A repository on the hub, at the commit that is recorded."""

    def __init__(self, uri: str, revision: str | None, work: WorkFolder) -> None:
        self._uri = uri
        self._commit = pinned_commit(work, uri, revision)
        self.revision: str | None = self._commit

    def files(self) -> list[str]:
        return list_files(self._uri, self._commit)

    def fetch(self, names: Sequence[str], folder: Path, report: Report) -> None:
        download(self._uri, self._commit, names, folder, report)


class _Store:
    """A folder of an object store."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self.revision: str | None = None

    def files(self) -> list[str]:
        return list(list_folder(self._uri))

    def fetch(self, names: Sequence[str], folder: Path, report: Report) -> None:
        fetch_folder(self._uri, folder, names=names, report=report)


class RemoteModel:
    """A base model that is not on this machine. Use it as a context manager: leaving it stops the download.

    Entering it fetches and checks the configuration and the tokenizer, then lets a thread fetch and check the weights.

    Attributes:
        uri: Where it comes from.
        revision: The commit of an hf:// model.
        folder: The local folder; it has another name until the model is complete.
        settings: Its config.json.
        tokenizer: Its tokenizer.
        architecture: The model that config.json describes.
    """

    settings: dict[str, Any]
    tokenizer: Any
    architecture: Architecture

    def __init__(
        self,
        config: JobConfig,
        work: WorkFolder,
        architectures: Collection[str],
        check: CheckConfiguration,
        stored_class: StoredClass,
    ) -> None:
        """Describe the model.

        Args:
            config: The job.
            work: Its work folder.
            architectures: The supported architectures.
            check: Checks the configuration.
            stored_class: Returns the class of transformers whose tensors the files hold.
        """
        self._stored_class = stored_class
        self.uri = config.spec.model.uri or ""
        self.revision: str | None = None
        self._config, self._work, self._architectures, self._check = config, work, architectures, check
        self._target = work.prepared_model
        self.folder = self._target if self._target.exists() else self._target.with_name(f".{self._target.name}.partial")
        self._stack = ExitStack()
        self._doing = ""

    def __enter__(self) -> RemoteModel:
        model, uri = self._config.spec.model, self.uri
        source: _Source = _Hub(uri, model.revision, self._work) if uri.startswith("hf://") else _Store(uri)
        self.revision = source.revision
        weights: list[str] = []
        if self.folder != self._target:
            names = wanted_files(uri, source.files())
            weights = [name for name in names if is_weights(name)]
            self.folder.mkdir(parents=True, exist_ok=True)
            with Progress(self._work, f"fetching {uri}", None, "bytes") as progress:
                source.fetch([name for name in names if not is_weights(name)], self.folder, progress.update)
        max_length = required_positions(self._config.spec)
        self.settings = check_small_files(self.folder, uri, max_length, self._architectures)
        self.tokenizer = load_tokenizer(self.folder, uri, self.settings["vocab_size"])
        self.architecture = read_architecture(self.folder, uri, self._stored_class(self.settings))
        self._check(self.architecture.config.to_dict(), uri)

        def fetch_weights(proceed: Proceed) -> None:
            if weights:
                source.fetch(weights, self.folder, stoppable(self._fetched, proceed))
            self._doing = "checking weights"
            check_weight_files(self.folder, uri)
            check_weights(self.folder, uri, self.architecture, proceed)
            self._doing = ""

        self._doing = "fetching weights" if weights else "checking weights"
        self._running = self._stack.enter_context(Background("weights", fetch_weights))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def _fetched(self, done: int, total: int | None) -> None:
        self._doing = f"fetching weights {human(done)}" + (f" of {human(total)}" if total else "")

    def check(self) -> None:
        """Raise the error with which the weights cannot be fetched, or are not those of the model."""
        self._running.check()

    def text(self) -> str:
        """Return what is being done with the weights; empty when they are complete."""
        return self._doing

    def finish(self) -> Path:
        """Wait until the weights are there and checked, and return the model's folder.

        Raises:
            StageError: They cannot be fetched, or are not those of the model.
        """
        with Progress(self._work, f"waiting for {self.uri}", None, "seconds", self) as progress:
            started = time.monotonic()
            while not self._running.wait(_POLL):
                progress.update(int(time.monotonic() - started))
        if self.folder != self._target:
            sweep(self.folder, ".*.part*")
            self.folder.replace(self._target)
            self.folder = self._target
        return self.folder


def remote_model(
    config: JobConfig,
    work: WorkFolder,
    architectures: Collection[str],
    check: CheckConfiguration,
    stored_class: StoredClass,
) -> AbstractContextManager[RemoteModel | None]:
    """Return the context in which the job's model is fetched; it gives None where it need not be."""
    uri = config.spec.model.uri
    if uri is None or local_path(uri) is not None:
        return nullcontext()
    return RemoteModel(config, work, architectures, check, stored_class)
