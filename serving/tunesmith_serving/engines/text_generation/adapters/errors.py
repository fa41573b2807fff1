"""Why an adapter cannot be served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith_serving.runtime.errors import ServingError

if TYPE_CHECKING:
    from tunesmith_serving.engines.text_generation.adapters.weights import Adapter


class AdapterError(ServingError):
    """The adapter cannot be used with this base, or is damaged; the message says what to do."""


class UnreadableAdapterError(Exception):
    """The file of an adapter has changed after it was loaded, or cannot be read any more.

    Attributes:
        adapter: The adapter.
    """

    def __init__(self, adapter: Adapter, reason: AdapterError) -> None:
        super().__init__(f"the adapter {adapter.name!r} cannot be used any more: {reason}")
        self.adapter = adapter


class UnknownAdapterError(ValueError):
    """A request names an adapter that is not loaded."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the adapter {name!r} is not loaded")
        self.name = name
