"""Imports transformers, peft and others without the packages that they import wherever those are installed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tunesmith_api.local.imports import importing

# scipy and sklearn have metrics and losses of other tasks, bitsandbytes has layers that are not used (models/nf4.py).
_UNUSED = ("bitsandbytes", "datasets", "scipy", "sklearn")

MODELS = "transformers.modeling_utils"
"""What transformers imports with the first model."""


@contextmanager
def without_unused() -> Iterator[None]:
    """Let packages seem not to be installed that libraries import and make no use of here.

    Others can import them later. They are a third of the time that the imports take. Remove this when the libraries
    import them only where they use them.
    """
    hidden = [name for name in _UNUSED if name not in sys.modules and not _was_seen(name)]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
        if "bitsandbytes" in hidden and "peft" in sys.modules:
            _remember_that_bitsandbytes_is_hidden()
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


@contextmanager
def importing_models(*libraries: str) -> Iterator[None]:
    """Import what uses models; see `importing`.

    Args:
        libraries: Modules that are imported before, and would else be imported later, with all that they find.
    """
    with importing(), without_unused():
        for library in libraries:
            importlib.import_module(library)
        yield


def _was_seen(name: str) -> bool:
    """Return whether transformers has found a package already: it keeps the answer, and imports the package then."""
    ask: Any = getattr(sys.modules.get("transformers.utils.import_utils"), f"is_{name}_available", None)
    return hasattr(ask, "cache_info") and ask.cache_info().currsize > 0 and bool(ask())


def _remember_that_bitsandbytes_is_hidden() -> None:
    """Let peft ask now, as it keeps the answer: it would ask with the first adapter."""
    from peft.import_utils import is_bnb_4bit_available, is_bnb_available

    is_bnb_available()
    is_bnb_4bit_available()
