"""`tunesmith version`."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("torch", "transformers", "peft", "deepspeed", "onnxruntime", "onnxruntime-genai", "kopf", "kubernetes")


def versions() -> dict[str, str]:
    """Return the versions of tunesmith and of its main dependencies."""
    found = {"tunesmith": version("tunesmith")}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
