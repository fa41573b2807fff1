"""The phases of a server's life."""

from dataclasses import dataclass


@dataclass
class ServerState:
    """Changes over the life of a server.

    Attributes:
        ready: The engine has warmed up.
        terminating: A signal has asked the server to end. It still accepts requests, but is not ready any more, so
            that clients and load balancers go elsewhere.
        draining: New requests are refused; those in flight are finished.
        open_requests: Requests to the engine's routes that are being answered.
    """

    ready: bool = False
    terminating: bool = False
    draining: bool = False
    open_requests: int = 0
