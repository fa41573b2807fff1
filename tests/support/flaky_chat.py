"""A service that answers chats with what it was asked, and fails as it is told to."""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Failure = tuple[int, dict[str, str], str]
"""Status, headers and code of an error."""


class FlakyChat:
    """The service. It fails with `failures`, one after another, and then answers.

    Attributes:
        url: Its base URL.
        asked: The last message of each request.
        most: The most requests at the same time.
        hold: Requests are answered once it is set.
        choice: Fields of an answer's choice, by the last message.
    """

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.most = 0
        self.failures: deque[Failure] = deque()
        self.hold = threading.Event()
        self.hold.set()
        self.choice: Callable[[str], dict[str, Any]] = lambda text: {}
        self._lock = threading.Lock()
        self._now = 0

    @contextmanager
    def serving(self) -> Iterator["FlakyChat"]:
        """Serve until the end of the context."""
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, headers, answer = service.answer(body["messages"][-1]["content"])
                data = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            yield self
        finally:
            self.hold.set()
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, text: str) -> tuple[int, dict[str, str], dict[str, Any]]:
        with self._lock:
            self.asked.append(text)
            self._now += 1
            self.most = max(self.most, self._now)
            failure = self.failures.popleft() if self.failures else None
        self.hold.wait(300)
        time.sleep(0.01)
        with self._lock:
            self._now -= 1
        if failure is not None:
            status, headers, code = failure
            return status, headers, {"error": {"message": f"fails with {status}", "code": code}}
        message = {"role": "assistant", "content": f"You said: {text}"}
        return 200, {}, {"choices": [{"finish_reason": "stop", "message": message, **self.choice(text)}]}
