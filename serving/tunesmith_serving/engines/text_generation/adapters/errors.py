"""Why an adapter cannot be served."""

from tunesmith_serving.runtime.errors import ServingError


class AdapterError(ServingError):
    """The adapter cannot be used with this base, or is damaged; the message says what to do."""


class UnknownAdapterError(ValueError):
    """A request names an adapter that is not loaded."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the adapter {name!r} is not loaded")
        self.name = name
