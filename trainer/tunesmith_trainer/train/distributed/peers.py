"""The other nodes of a run: waits for them, and tells their failures from failures on this node."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Callable

from tunesmith_api.failures import Reason, StageError

log = logging.getLogger(__name__)

RENDEZVOUS_SECONDS = 1800
"""How long nodes wait for one another at the start: as long as a cluster may take to add a node."""

COLLECTIVE_SECONDS = 900
"""Timeout of a collective operation: a dead node is noticed within this time."""

MARKER_SECONDS = 300.0
"""How long the other nodes wait for node 0 to write the trained weights."""

UPLOAD_SECONDS = 1800.0
"""The same if node 0 uploads them to an object store."""

_POLL_SECONDS = 1.0
_CONNECT_SECONDS = 5.0
_NETWORK = re.compile(
    r"gloo|nccl|tcpstore|connection (closed|reset|refused)|broken pipe|timed out|timeout|no route to host|"
    r"network is unreachable|socket",
    re.I,
)


def wait_for_master(address: str, port: int, seconds: float = RENDEZVOUS_SECONDS) -> None:
    """Wait until the name of node 0 resolves and its port accepts connections.

    Its pod may start later than this one, and only then has a DNS record.

    Raises:
        StageError: PEER_UNREACHABLE: it did not happen within that time.
    """
    deadline, logged = time.monotonic() + seconds, ""
    while True:
        try:
            with socket.create_connection((address, port), _CONNECT_SECONDS):
                return
        except OSError as error:
            problem = str(error.strerror or error)
        if time.monotonic() > deadline:
            raise peer_unreachable(f"node 0 ({address}:{port}) does not answer: {problem}")
        if problem != logged:
            log.info("waiting for node 0 (%s:%d): %s", address, port, problem)
            logged = problem
        time.sleep(_POLL_SECONDS)


def wait_until_complete(
    is_complete: Callable[[], bool],
    seconds: float = MARKER_SECONDS,
    sign_of_life: Callable[[], object] = lambda: None,
) -> None:
    """Wait until node 0 has marked the stage complete.

    Args:
        is_complete: Returns whether it has.
        seconds: How long to wait after the last sign of life.
        sign_of_life: Returns something that changes while node 0 is at work, as it is when it evaluates the models.

    Raises:
        StageError: PEER_LOST: it did not, so it failed before. All nodes restart from the last checkpoint.
    """
    deadline, seen = time.monotonic() + seconds, sign_of_life()
    while not is_complete():
        if (newest := sign_of_life()) != seen:
            deadline, seen = time.monotonic() + seconds, newest
        if time.monotonic() > deadline:
            raise peer_lost("node 0 ended before it could say that training is complete")
        time.sleep(_POLL_SECONDS)


def is_network_error(error: BaseException) -> bool:
    """Return whether an error means that the connection to another process failed."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    names = {base.__name__ for base in type(error).__mro__}
    return bool("DistError" in names or (isinstance(error, RuntimeError) and _NETWORK.search(str(error))))


def peer_lost(detail: str) -> StageError:
    """Return the error when another node is gone after training has started."""
    return StageError(Reason.PEER_LOST, f"another node of the run is gone: {detail}", "It is started again")


def peer_unreachable(detail: str) -> StageError:
    """Return the error when this node cannot reach the others."""
    remedy = "Check that pods of this namespace may connect to one another (NetworkPolicy), and why others do not start"
    return StageError(Reason.PEER_UNREACHABLE, f"the nodes of the run do not reach one another: {detail}", remedy)
