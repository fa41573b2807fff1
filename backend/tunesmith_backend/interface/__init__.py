"""The interface of backends: the protocol, its events and its errors."""
