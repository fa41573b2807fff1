"""Requests at a steady rate, while something else happens."""

import threading
from collections import Counter
from typing import Any

import httpx

RATE = 20  # requests a second


class Load:
    """Requests at a steady rate, each over a connection of its own, so that each is balanced anew.

    Attributes:
        answers: How many requests were answered with which HTTP status, or failed with which error.
    """

    def __init__(self, url: str, body: dict[str, Any]) -> None:
        """Send nothing yet.

        Args:
            url: Where requests are sent to.
            body: The body of each.
        """
        self._url, self._body = url, body
        self.answers: Counter[str] = Counter()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._clock = threading.Thread(target=self._run)

    def __enter__(self) -> "Load":
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._clock.join()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._over.wait(1 / RATE):
            thread = threading.Thread(target=self._ask)
            thread.start()
            self._threads.append(thread)

    def _ask(self) -> None:
        try:
            self.answers[str(httpx.post(self._url, json=self._body, timeout=300).status_code)] += 1
        except httpx.HTTPError as error:
            self.answers[type(error).__name__] += 1
