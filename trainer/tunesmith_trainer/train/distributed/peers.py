"""The other machines of a run: waiting for them, and telling their failures from our own."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Callable

from tunesmith_api.failures import Reason, StageError

log = logging.getLogger(__name__)

RENDEZVOUS_SECONDS = 1800
"""How long machines wait for one another at the start: as long as a node may take to be added."""

COLLECTIVE_SECONDS = 900
"""How long a process waits for the others within a step: bounds the time until a machine that died is missed."""

MARKER_SECONDS = 300.0
"""How long machines wait until the first one has written the trained weights."""

UPLOAD_SECONDS = 1800.0
"""The same where it keeps them in an object store."""

_POLL_SECONDS = 1.0
_CONNECT_SECONDS = 5.0
_NETWORK = re.compile(
    r"gloo|nccl|tcpstore|connection (closed|reset|refused)|broken pipe|timed out|timeout|no route to host|"
    r"network is unreachable|socket",
    re.I,
)


def wait_for_master(address: str, port: int, seconds: float = RENDEZVOUS_SECONDS) -> None:
    """Wait until machine 0 has a name and listens.

    Its pod may start later than this one, and its name is known to the DNS only then.

    Raises:
        StageError: PEER_UNREACHABLE: it does not within that time.
    """
    deadline, said = time.monotonic() + seconds, ""
    while True:
        try:
            with socket.create_connection((address, port), _CONNECT_SECONDS):
                return
        except OSError as error:
            problem = str(error.strerror or error)
        if time.monotonic() > deadline:
            raise unreachable(f"machine 0 ({address}:{port}) does not answer: {problem}")
        if problem != said:
            log.info("waiting for machine 0 (%s:%d): %s", address, port, problem)
            said = problem
        time.sleep(_POLL_SECONDS)


def wait_until_complete(is_complete: Callable[[], bool], seconds: float = MARKER_SECONDS) -> None:
    """Wait until machine 0 has said that training is complete.

    Raises:
        StageError: PEER_LOST: it has not, so it has ended before; all begin again from the last checkpoint.
    """
    deadline = time.monotonic() + seconds
    while not is_complete():
        if time.monotonic() > deadline:
            raise lost("machine 0 ended before it could say that training is complete")
        time.sleep(_POLL_SECONDS)


def is_network(error: BaseException) -> bool:
    """Return whether an error is that of a process which others have left alone."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    names = {base.__name__ for base in type(error).__mro__}
    return bool("DistError" in names or (isinstance(error, RuntimeError) and _NETWORK.search(str(error))))


def lost(detail: str) -> StageError:
    """Return the error of a machine that was left alone after training had begun."""
    return StageError(Reason.PEER_LOST, f"another machine of the run is gone: {detail}", "It is started again")


def unreachable(detail: str) -> StageError:
    """Return the error of a machine that the others could not be reached from."""
    remedy = "Check that pods of this namespace may connect to one another (NetworkPolicy), and why others do not start"
    return StageError(Reason.PEER_UNREACHABLE, f"the machines of the run do not reach one another: {detail}", remedy)
