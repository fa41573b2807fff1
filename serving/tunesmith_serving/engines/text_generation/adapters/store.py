"""The adapters that are served now, and what the others wait for."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from tunesmith_serving.engines.text_generation.adapters.errors import UnknownAdapterError
from tunesmith_serving.engines.text_generation.adapters.weights import Adapter

State = Literal["Pending", "Loaded", "Failed"]

MAX_COUNTED = 1000
"""Names of adapters that requests are counted for; those of later ones are counted together."""
OTHERS = "other"


@dataclass(frozen=True, slots=True)
class AdapterState:
    """How far an entry of the list of adapters is.

    Attributes:
        state: Whether it is served: Loaded, or Pending, or Failed.
        message: Why not, and what to do; of an adapter that waits, what for.
        digest: The digest that it has, or should have; empty if it is not known.
    """

    state: State
    message: str = ""
    digest: str = ""


class AdapterStore:
    """Adapters by name. A request keeps the adapter that it began with, also when that is removed.

    Attributes:
        base: The name of the base in requests.
    """

    def __init__(self, base: str = "model") -> None:
        self.base = base
        self._lock = threading.Lock()
        self._adapters: dict[str, Adapter] = {}
        self._states: dict[str, AdapterState] = {}
        self._requests: Counter[str] = Counter({base: 0})

    def resolve(self, name: str | None) -> Adapter | None:
        """Return the adapter for a new request; None stands for the base.

        Raises:
            UnknownAdapterError: It is not loaded.
        """
        if name is None:
            return None
        if (adapter := self.get(name)) is None:
            raise UnknownAdapterError(name)
        return adapter

    def count(self, name: str | None) -> None:
        """Count a request that was taken."""
        with self._lock:
            model = name or self.base
            counted = model in self._requests or len(self._requests) < MAX_COUNTED
            self._requests[model if counted else OTHERS] += 1

    def get(self, name: str) -> Adapter | None:
        """Return a loaded adapter."""
        with self._lock:
            return self._adapters.get(name)

    def loaded(self) -> list[Adapter]:
        """Return the adapters that are served, by name."""
        with self._lock:
            return [self._adapters[name] for name in sorted(self._adapters)]

    def states(self) -> dict[str, AdapterState]:
        """Return how far each entry of the list is."""
        with self._lock:
            return dict(sorted(self._states.items()))

    def requests(self) -> dict[str, int]:
        """Return the requests that were taken by the name of their model."""
        with self._lock:
            return dict(self._requests)

    def add(self, adapter: Adapter) -> None:
        """Serve an adapter, in the place of another one of its name."""
        with self._lock:
            self._adapters[adapter.name] = adapter
            self._states[adapter.name] = AdapterState("Loaded", "", adapter.digest)

    def report(self, name: str, state: AdapterState) -> None:
        """Say how far an entry is; an adapter of its name that was loaded before is still served."""
        with self._lock:
            self._states[name] = state

    def fail(self, adapter: Adapter, message: str) -> None:
        """Serve an adapter no longer that cannot be read."""
        with self._lock:
            if self._adapters.get(adapter.name) is adapter:
                del self._adapters[adapter.name]
                self._states[adapter.name] = AdapterState("Failed", message, adapter.digest)

    def remove(self, name: str) -> None:
        """Serve an adapter no longer."""
        with self._lock:
            self._adapters.pop(name, None)
            self._states.pop(name, None)
