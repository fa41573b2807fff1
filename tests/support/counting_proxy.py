"""Stands between a client and a server on loopback: counts what the server sends, and can hold it back."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CountingProxy:
    """Forwards connections to a port.

    Attributes:
        sent: Bytes from the server that were passed on.
        hold_after: No more than so many are passed on.
        held: Set as soon as something is held back.
    """

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self._target = (address, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._changed = threading.Condition()
        self.sent = 0
        self.hold_after: int | None = None
        self.held = threading.Event()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def release(self) -> None:
        """Pass on everything from now on."""
        with self._changed:
            self.hold_after = None
            self.held.clear()
            self._changed.notify_all()

    @contextmanager
    def serving(self) -> Iterator["CountingProxy"]:
        threading.Thread(target=self._accept, daemon=True).start()
        try:
            yield self
        finally:
            self.release()
            self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
                threading.Thread(target=self._forward, args=(server, client, True), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, counted: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if counted:
                    with self._changed:
                        while self.hold_after is not None and self.sent + len(data) > self.hold_after:
                            self.held.set()
                            self._changed.wait()
                        self.sent += len(data)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
