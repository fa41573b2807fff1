"""Downloads one small file of a model from the Hugging Face hub, or from a mirror of it (HF_ENDPOINT)."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path

from tunesmith_api.planner.hub import HUB_ENDPOINT, hub_file_url
from tunesmith_backend.interface.errors import BackendError, ErrorKind

_MOST_BYTES = 8 << 20  # the config.json of a large model takes some kilobytes
_TRUE = ("1", "ON", "YES", "TRUE")


def hub_file(uri: str, revision: str | None, name: str, seconds: float) -> bytes:
    """Return a file of a model.

    Args:
        uri: The model, hf://ORGANISATION/NAME.
        revision: A branch, tag or commit; main by default.
        name: Path of the file in the repository.
        seconds: How long the hub is waited for.

    Raises:
        BackendError: It cannot be downloaded. The message says what to do.
    """
    if any(os.environ.get(key, "").upper() in _TRUE for key in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")):
        raise BackendError(f"{uri}: HF_HUB_OFFLINE is set; unset it, or give the model's folder as spec.model.uri")
    url = hub_file_url(os.environ.get(HUB_ENDPOINT, ""), uri, revision, name)
    request = urllib.request.Request(url, headers={"User-Agent": "tunesmith"})  # noqa: S310 - the hub, or the user's mirror
    token = _token()
    if token:
        # Not sent to where the hub redirects to.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
            data: bytes = answer.read(_MOST_BYTES + 1)
    except urllib.error.HTTPError as error:
        raise _refused(uri, revision, name, error, has_token=bool(token)) from None
    except (urllib.error.URLError, OSError) as error:
        what = getattr(error, "reason", None) or error
        message = f"{uri}: the hub cannot be reached ({what}); check the network and HF_ENDPOINT"
        raise BackendError(message, ErrorKind.RETRY) from None
    if len(data) > _MOST_BYTES:
        raise BackendError(f"{uri}: {name} is larger than {_MOST_BYTES >> 20} MiB; check spec.model.uri")
    return data


def _token() -> str | None:
    """Return the user's token, from where the hub's own client takes it."""
    token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    if not token:
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
        path = Path(os.environ.get("HF_TOKEN_PATH") or f"{home}/token").expanduser()
        token = path.read_text() if path.is_file() else None
    return token.strip() or None if token else None


def _refused(
    uri: str, revision: str | None, name: str, error: urllib.error.HTTPError, *, has_token: bool
) -> BackendError:
    """Return the error for an answer of the hub that is none of 200."""
    code = error.headers.get("X-Error-Code") if error.headers else None
    if code == "RevisionNotFound":
        return BackendError(f"{uri}: there is no revision {revision}; correct spec.model.revision")
    if code == "EntryNotFound":
        return BackendError(f"{uri}: the repository has no {name}; take one in the transformers layout")
    if error.code in (401, 403) and not has_token:
        return BackendError(
            f"{uri}: no such model on the hub, or it is private or gated, and no token is set; accept its terms on its "
            "page and set HF_TOKEN, or correct spec.model.uri"
        )
    if error.code in (401, 403):
        return BackendError(
            f"{uri}: this token has no access (HTTP {error.code}); accept the model's terms on its page"
        )
    if error.code in (404, 410):
        return BackendError(f"{uri}: no such model on the hub; correct spec.model.uri")
    return BackendError(f"{uri}: the hub answers HTTP {error.code}; try again later", ErrorKind.RETRY)
