"""The methods by name."""

from __future__ import annotations

from tunesmith_trainer.methods.base import Method
from tunesmith_trainer.methods.dora import Dora
from tunesmith_trainer.methods.full import Full
from tunesmith_trainer.methods.lora import Lora
from tunesmith_trainer.methods.qdora import QDora
from tunesmith_trainer.methods.qlora import QLora

_METHODS: dict[str, Method] = {method.name: method for method in (Lora(), QLora(), Dora(), QDora(), Full())}


def register_method(method: Method) -> None:
    """Add a method; its facts are registered in `tunesmith_api.methods`."""
    _METHODS[method.name] = method


def method_of(name: str) -> Method:
    """Return the method of a name that the spec's validation has accepted."""
    return _METHODS[name]
