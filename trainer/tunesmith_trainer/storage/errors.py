"""Translates the errors of file systems and of their client libraries into StageErrors."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.runtime.disk import disk_full
from tunesmith_trainer.storage.uris import local_path, public, scheme_of

_RETRY = (408, 425, 429, 500, 502, 503, 504)
_NETWORK = re.compile(r"NETWORK_CONNECTION|resolve host|connect to server|Connection refused|timed? ?out", re.I)
_DENIED = re.compile(r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|credential", re.I)
_MISSING = re.compile(r"NO_SUCH_BUCKET|NO_SUCH_KEY|bucket does not exist|not found|does not exist|nonexistent", re.I)


@contextmanager
def translate_errors(uri: str, missing: Reason, doing: str = "read") -> Iterator[None]:
    """Turn any error of a file system into a StageError that names the URI.

    Args:
        uri: What is being read or written.
        missing: The reason if the file does not exist or access is denied.
        doing: read or write.
    """
    shown = public(uri)
    try:
        yield
    except StageError:
        raise
    except (PermissionError, IsADirectoryError) as error:
        raise StageError(missing, f"{shown}: cannot {doing}: {error}", _credentials(uri)) from error
    except ImportError as error:
        raise StageError(Reason.INVALID_SPEC, f"{shown}: {error}", "Install tunesmith with [trainer]") from error
    except Exception as error:
        raise _translate(error, uri, missing, doing) from error


def _translate(error: Exception, uri: str, missing: Reason, doing: str) -> StageError:
    """Translate an error of a file system or of its client library."""
    shown = public(uri)
    absent = StageError(missing, f"{shown}: no such file or folder", "Check the path or URI")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        if not isinstance(error.__cause__, Exception):
            return absent
        error = error.__cause__  # fsspec reports every HTTP error as a missing file
    text = " ".join(str(error).replace(uri, shown).split())[:500] or type(error).__name__
    status = _http_status(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(Path(error.filename) if error.filename else local_path(uri) or Path.cwd())
    network = status in _RETRY or _is_network(error) or bool(_NETWORK.search(text))
    if not network:
        if status in (401, 403) or (status is None and _DENIED.search(text)):
            return StageError(missing, f"{shown}: no permission to {doing} it: {text}", _credentials(uri))
        if status in (404, 410) or _MISSING.search(text):
            return absent
        if status is not None and 400 <= status < 500:
            return StageError(missing, f"{shown}: cannot {doing}: {text}", "Check the URI")
    if network or isinstance(error, OSError):
        remedy = "Check the network and the address, and try again"
        return StageError(Reason.SOURCE_UNAVAILABLE, f"{shown}: cannot {doing} now: {text}", remedy)
    return StageError(missing, f"{shown}: cannot {doing}: {text}", _credentials(uri))


def _is_network(error: BaseException) -> bool:
    """Return whether the error is a client library's own network failure (aiohttp, azure)."""
    network = {"ClientConnectionError", "ClientPayloadError", "TimeoutError"}
    network |= {"ServiceRequestError", "ServiceResponseError"}
    return any(base.__name__ in network for base in type(error).__mro__)


def _http_status(error: BaseException) -> int | None:
    """Return the HTTP status of an error, from the attribute or text that its library puts it in."""
    for name in ("status", "status_code", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    match = re.search(r"HTTP status (\d{3})", str(error))
    return int(match[1]) if match else None


def _credentials(uri: str) -> str:
    """Return a remedy: the credentials to check for this kind of storage."""
    scheme = scheme_of(uri)
    if scheme == "s3":
        return "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL"
    if scheme in ("abfs", "abfss", "az"):
        return "Check AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (or the workload identity)"
    if scheme in ("gs", "gcs"):
        return "Check GOOGLE_APPLICATION_CREDENTIALS"
    return "Check the path and its permissions"
