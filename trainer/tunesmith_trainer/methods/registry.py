"""The methods by name."""

from __future__ import annotations

from tunesmith_trainer.methods.adapter_method import AdapterMethod
from tunesmith_trainer.methods.base import Method
from tunesmith_trainer.methods.full import Full
from tunesmith_trainer.methods.quantized import QuantizedAdapter

_METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        AdapterMethod("lora", kind="lora"),
        QuantizedAdapter("qlora", kind="lora"),
        AdapterMethod("dora", kind="dora"),
        QuantizedAdapter("qdora", kind="dora"),
        Full(),
        AdapterMethod("ia3", kind="ia3"),
        AdapterMethod("vera", kind="vera"),
        AdapterMethod("oft", kind="oft"),
        AdapterMethod("loha", kind="loha"),
    )
}


def register_method(method: Method) -> None:
    """Add a method; its facts are registered in `tunesmith_api.methods`."""
    _METHODS[method.name] = method


def method_of(name: str) -> Method:
    """Return the method of a name that the spec's validation has accepted."""
    return _METHODS[name]
