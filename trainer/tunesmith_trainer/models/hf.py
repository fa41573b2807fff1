"""Models from the Hugging Face hub, or a mirror of it (HF_ENDPOINT), pinned to a commit."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.models.layout import wanted_files

log = logging.getLogger(__name__)

_NAME = "Check the name in spec.model.uri; for a private or gated model set HF_TOKEN to a token that may read it"


def _repository(uri: str) -> str:
    return uri.removeprefix("hf://")


def _endpoint() -> str | None:
    """Return the URL of the mirror that replaces the hub, if one is set."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


@contextmanager
def _failures(uri: str, revision: str | None) -> Iterator[None]:
    """Translate the hub client's errors into StageErrors."""
    import httpx2
    from huggingface_hub import errors, get_token

    try:
        yield
    except (errors.GatedRepoError, errors.RepositoryNotFoundError) as error:
        status = error.response.status_code if error.response is not None else 404
        if status in (401, 403) and not get_token():
            raise _no_token(uri, gated=isinstance(error, errors.GatedRepoError)) from error
        if not isinstance(error, errors.GatedRepoError):
            raise StageError(Reason.MODEL_NOT_FOUND, f"{uri}: no such model on the hub", _NAME) from error
        raise StageError(
            Reason.MODEL_NOT_FOUND,
            f"{uri}: the model is gated and this token has no access",
            "Accept the model's terms on its page, and set HF_TOKEN to your token",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise StageError(
            Reason.MODEL_NOT_FOUND, f"{uri}: there is no revision {revision}", "Correct spec.model.revision"
        ) from error
    except errors.HFValidationError as error:
        raise StageError(Reason.INVALID_SPEC, f"{uri}: {error}", "Write uri: hf://ORGANISATION/NAME") from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise StageError(
            Reason.SOURCE_UNAVAILABLE,
            f"{uri}: the hub cannot be reached",
            "Check the network, HF_ENDPOINT and HF_HUB_OFFLINE; without a network give a folder, or scratch",
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 500
        if status in (401, 403) and not get_token():
            raise _no_token(uri) from error
        if status in (401, 403):
            raise StageError(Reason.MODEL_NOT_FOUND, f"{uri}: no access (HTTP {status})", _NAME) from error
        if status in (404, 410):
            raise StageError(Reason.MODEL_NOT_FOUND, f"{uri}: not found (HTTP {status})", _NAME) from error
        raise StageError(
            Reason.SOURCE_UNAVAILABLE, f"{uri}: the hub answers HTTP {status}", "Try again later"
        ) from error
    except (httpx2.HTTPError, OSError) as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise StageError(
            Reason.SOURCE_UNAVAILABLE,
            f"{uri}: the hub cannot be reached: {text}",
            "Check the network and HF_ENDPOINT; without a network give a folder, or scratch",
        ) from error


def _no_token(uri: str, *, gated: bool = False) -> StageError:
    from huggingface_hub import constants

    what = "the model is gated" if gated else "no such model on the hub, or it is private or gated"
    return StageError(
        Reason.MODEL_NOT_FOUND,
        f"{uri}: {what}, and no token is set: HF_TOKEN is empty, and there is no file {constants.HF_TOKEN_PATH}",
        "Accept the model's terms on its page, and set HF_TOKEN to your token (in a cluster in the Secret of "
        "spec.model.secretRef)" + ("" if gated else "; or correct spec.model.uri"),
    )


def resolve_commit(uri: str, revision: str | None) -> str:
    """Return the commit that a revision of an hf:// model has at the moment.

    Raises:
        StageError: MODEL_NOT_FOUND, or SOURCE_UNAVAILABLE when the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    with _failures(uri, revision or "main"):
        commit = HfApi(endpoint=_endpoint()).model_info(_repository(uri), revision=revision).sha
    if not commit:
        raise StageError(Reason.SOURCE_UNAVAILABLE, f"{uri}: the hub names no commit", "Try again later")
    log.info("%s: revision %s is commit %s", uri, revision or "main", commit)
    return commit


def download_file(uri: str, commit: str, name: str, target: Path) -> Path:
    """Download one file of a model into a folder, and return its path.

    Raises:
        StageError: MODEL_NOT_FOUND: there is no such model or file; SOURCE_UNAVAILABLE.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    with _failures(uri, commit):
        return Path(hf_hub_download(_repository(uri), name, revision=commit, local_dir=target, endpoint=_endpoint()))


def download(uri: str, commit: str, target: Path) -> None:
    """Download a model's files of one commit into a folder. Existing files are kept.

    Raises:
        StageError: INVALID_MODEL without safetensors; MODEL_NOT_FOUND; SOURCE_UNAVAILABLE.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    with _failures(uri, commit):
        siblings = HfApi(endpoint=_endpoint()).model_info(_repository(uri), revision=commit).siblings or []
        names = wanted_files(uri, [sibling.rfilename for sibling in siblings])
        log.info("%s: downloading %d files", uri, len(names))
        snapshot_download(
            _repository(uri), revision=commit, local_dir=target, allow_patterns=names, endpoint=_endpoint()
        )
    shutil.rmtree(target / ".cache", ignore_errors=True)
