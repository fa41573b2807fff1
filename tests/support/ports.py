"""Ports for servers of tests."""

import socket


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port of this machine's address that is free now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
