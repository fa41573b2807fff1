"""Fetches data sets of the Hugging Face hub: `hf://datasets/ORGANISATION/NAME`, or a file or pattern in one."""

from __future__ import annotations

from pathlib import Path

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import DatasetSource
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.data.errors import dataset_error
from tunesmith_trainer.data.hub_layout import split_files
from tunesmith_trainer.data.progress import Companion, Progress
from tunesmith_trainer.data.selection import is_data_file, match
from tunesmith_trainer.storage.hub import HubRepository, dataset_card
from tunesmith_trainer.storage.hub_errors import DATASET


def fetch_hub_dataset(
    source: DatasetSource, work: WorkFolder, slot: str, beside: Companion | None = None
) -> tuple[list[tuple[str, Path]], str]:
    """Download the files of a source, and return the `(name, path)` of each and the commit.

    Args:
        source: The source.
        work: The job's work folder.
        slot: A folder name that is unique within the job.
        beside: What goes on at the same time.

    Raises:
        StageError: There is no such data set, configuration, split or file, or the hub cannot be reached.
    """
    uri = source.uri or ""
    organisation, name, *rest = uri.removeprefix("hf://datasets/").split("/", 2)
    repository, inner = HubRepository(uri, f"{organisation}/{name}", DATASET), rest[0].strip("/") if rest else ""
    folder = work.stage(Stage.PREPARE) / "sources" / slot
    commit = repository.pinned_commit(source.revision, folder.with_name(f"{folder.name}-source.json"))
    files = repository.files(commit)
    if inner:
        chosen = _inside(source, files, inner)
    else:
        card = dataset_card(repository, commit, folder) if "README.md" in files else {}
        chosen = split_files(uri, files, card, source.configuration, source.split)
    with Progress(work, f"fetching {uri}", None, "bytes", beside) as progress:
        repository.download(commit, chosen, folder, progress.update)
    return [(f"hf://datasets/{repository.name}/{file}", folder / file) for file in chosen], commit


def _inside(source: DatasetSource, files: list[str], path: str) -> list[str]:
    """Return the files that a path, a folder or a pattern within a data set means."""
    if source.configuration or source.split:
        raise StageError(
            Reason.INVALID_SPEC,
            f"{source.uri}: configuration and split have no meaning for a path within a data set",
            "Remove them, or the path after the data set's name",
        )
    if path in files:
        return [path]
    inside = [file for file in match(f"{path}/*", files) if is_data_file(file.rsplit("/", 1)[-1])]
    found = match(path, files) or inside
    if not found:
        raise dataset_error(source.uri or "", "the data set has no such file", f"Write one of {', '.join(files[:8])}")
    return found
