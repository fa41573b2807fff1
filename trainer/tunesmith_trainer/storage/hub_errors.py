"""Translates the errors of the Hugging Face hub's client into StageErrors, for models and data sets alike."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tunesmith_api.failures import Reason, StageError


@dataclass(frozen=True)
class HubKind:
    """A kind of repository, as messages name it.

    Attributes:
        type: The kind's name in the hub's API.
        noun: What a repository of this kind is.
        missing: The reason if it does not exist or may not be read.
        name_field: Where the job names it.
        revision_field: Where the job names its revision.
        secret_field: Where a job in a cluster names its token's Secret.
        form: How its URI is written.
        instead: What can be given instead of it without a network.
    """

    type: str
    noun: str
    missing: Reason
    name_field: str
    revision_field: str
    secret_field: str
    form: str
    instead: str


MODEL = HubKind(
    "model",
    "model",
    Reason.MODEL_NOT_FOUND,
    "spec.model.uri",
    "spec.model.revision",
    "spec.model.secretRef",
    "uri: hf://ORGANISATION/NAME",
    "a folder, or scratch",
)
DATASET = HubKind(
    "dataset",
    "data set",
    Reason.INVALID_DATASET,
    "spec.dataset",
    "revision in spec.dataset",
    "the source's secretRef",
    "uri: hf://datasets/ORGANISATION/NAME",
    "a file or a folder",
)


@contextmanager
def translate_hub_errors(uri: str, kind: HubKind, revision: str | None) -> Iterator[None]:
    """Translate the hub client's errors.

    Args:
        uri: The repository.
        kind: What it is.
        revision: The revision that is asked for.

    Raises:
        StageError: The kind's own reason, INVALID_SPEC, or SOURCE_UNAVAILABLE if the hub cannot be reached.
    """
    import httpx2
    from huggingface_hub import errors, get_token

    def missing(problem: str, remedy: str) -> StageError:
        return StageError(kind.missing, f"{uri}: {problem}", remedy)

    def unavailable(problem: str, remedy: str) -> StageError:
        return StageError(Reason.SOURCE_UNAVAILABLE, f"{uri}: {problem}", remedy)

    token = f"for a private or gated {kind.noun} set HF_TOKEN to a token that may read it"
    name = f"Check the name in {kind.name_field}; {token}"
    try:
        yield
    except errors.RevisionNotFoundError as error:
        raise missing(f"there is no revision {revision}", f"Correct {kind.revision_field}") from error
    except errors.GatedRepoError as error:
        if not get_token():
            raise _no_token(uri, kind, gated=True) from error
        problem = f"the {kind.noun} is gated and this token has no access"
        raise missing(problem, f"Accept the {kind.noun}'s terms on its page, and set HF_TOKEN to your token") from error
    except errors.RepositoryNotFoundError as error:
        if _status(error, 404) in (401, 403) and not get_token():
            raise _no_token(uri, kind, gated=False) from error
        raise missing(f"no such {kind.noun} on the hub", name) from error
    except errors.HFValidationError as error:
        raise StageError(Reason.INVALID_SPEC, f"{uri}: {error}", f"Write {kind.form}") from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise unavailable(
            "the hub cannot be reached",
            f"Check the network, HF_ENDPOINT and HF_HUB_OFFLINE; without a network give {kind.instead}",
        ) from error
    except errors.HfHubHTTPError as error:
        status = _status(error, 500)
        if status in (401, 403) and not get_token():
            raise _no_token(uri, kind, gated=False) from error
        if status in (401, 403):
            raise missing(f"no access (HTTP {status})", name) from error
        if status in (404, 410):
            raise missing(f"not found (HTTP {status})", name) from error
        raise unavailable(f"the hub answers HTTP {status}", "Try again later") from error
    except (httpx2.HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise unavailable(
            f"the hub cannot be reached: {text}",
            f"Check the network and HF_ENDPOINT; without a network give {kind.instead}",
        ) from error


def _status(error: Exception, default: int) -> int:
    response = getattr(error, "response", None)
    return int(response.status_code) if response is not None else default


def _no_token(uri: str, kind: HubKind, *, gated: bool) -> StageError:
    from huggingface_hub import constants

    what = f"the {kind.noun} is gated" if gated else f"no such {kind.noun} on the hub, or it is private or gated"
    return StageError(
        kind.missing,
        f"{uri}: {what}, and no token is set: HF_TOKEN is empty, and there is no file {constants.HF_TOKEN_PATH}",
        f"Accept the {kind.noun}'s terms on its page, and set HF_TOKEN to your token (in a cluster in the Secret of "
        f"{kind.secret_field})" + ("" if gated else f"; or correct {kind.name_field}"),
    )
