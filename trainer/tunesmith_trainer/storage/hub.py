"""Downloads files of a data set from the Hugging Face hub, or from a mirror of it (HF_ENDPOINT), at one commit."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith_api.failures import Reason, StageError

log = logging.getLogger(__name__)

_NAME = "Check the name in spec.dataset; for a private or gated data set set HF_TOKEN to a token that may read it"


def _endpoint() -> str | None:
    """Return the URL of the mirror that replaces the hub, if one is set."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


@contextmanager
def _translated(uri: str, revision: str | None) -> Iterator[None]:
    """Translate the hub client's errors into StageErrors."""
    import httpx2
    from huggingface_hub import errors, get_token

    def missing(problem: str, remedy: str) -> StageError:
        return StageError(Reason.INVALID_DATASET, f"{uri}: {problem}", remedy)

    def unavailable(problem: str, remedy: str) -> StageError:
        return StageError(Reason.SOURCE_UNAVAILABLE, f"{uri}: {problem}", remedy)

    try:
        yield
    except errors.GatedRepoError as error:
        problem = "the data set is gated, and " + ("this token has no access" if get_token() else "no token is set")
        raise missing(problem, "Accept the data set's terms on its page, and set HF_TOKEN to your token") from error
    except errors.RevisionNotFoundError as error:
        raise missing(f"there is no revision {revision}", "Correct revision in spec.dataset") from error
    except errors.RepositoryNotFoundError as error:
        raise missing("no such data set on the hub", _NAME) from error
    except errors.HFValidationError as error:
        raise StageError(Reason.INVALID_SPEC, f"{uri}: {error}", "Write hf://datasets/ORGANISATION/NAME") from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise unavailable(
            "the hub cannot be reached",
            "Check the network, HF_ENDPOINT and HF_HUB_OFFLINE; without a network give a file or a folder",
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 500
        if status in (401, 403):
            raise missing(f"no access (HTTP {status})", _NAME) from error
        if status in (404, 410):
            raise missing(f"not found (HTTP {status})", _NAME) from error
        raise unavailable(f"the hub answers HTTP {status}", "Try again later") from error
    except (httpx2.HTTPError, OSError) as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise unavailable(f"the hub cannot be reached: {text}", "Check the network and HF_ENDPOINT") from error


def dataset_commit(uri: str, repository: str, revision: str | None) -> str:
    """Return the commit that a revision of a data set has at the moment.

    Raises:
        StageError: There is no such data set or revision, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    with _translated(uri, revision or "main"):
        commit = HfApi(endpoint=_endpoint()).dataset_info(repository, revision=revision).sha
    if not commit:
        raise StageError(Reason.SOURCE_UNAVAILABLE, f"{uri}: the hub names no commit", "Try again later")
    log.info("%s: revision %s is commit %s", uri, revision or "main", commit)
    return commit


def dataset_files(uri: str, repository: str, commit: str) -> list[str]:
    """Return the paths of all files of a data set."""
    from huggingface_hub import HfApi

    with _translated(uri, commit):
        siblings = HfApi(endpoint=_endpoint()).dataset_info(repository, revision=commit).siblings or []
    return sorted(sibling.rfilename for sibling in siblings)


def dataset_card(uri: str, repository: str, commit: str, folder: Path) -> Mapping[str, Any]:
    """Return the metadata in a data set's README.md, which is downloaded into a folder."""
    from huggingface_hub import metadata_load

    download_dataset(uri, repository, commit, ["README.md"], folder)
    try:
        return metadata_load(folder / "README.md") or {}
    except Exception as error:  # whatever the YAML library raises
        problem = " ".join(str(error).split())[:200]
        raise StageError(
            Reason.INVALID_DATASET,
            f"{uri}: the metadata in README.md is broken: {problem}",
            "Name a file of it instead",
        ) from error


def download_dataset(uri: str, repository: str, commit: str, files: Sequence[str], folder: Path) -> None:
    """Download files of a data set into a folder. Complete files are kept.

    Raises:
        StageError: A file cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    with _translated(uri, commit):
        for file in files:
            if not (folder / file).exists():
                hf_hub_download(
                    repository, file, repo_type="dataset", revision=commit, local_dir=folder, endpoint=_endpoint()
                )
    shutil.rmtree(folder / ".cache", ignore_errors=True)
