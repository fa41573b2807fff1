"""torch.compile of a model's layers."""

from __future__ import annotations

import os
import shutil
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.models.loading import without_adapter

_COMPILERS = ("cc", "gcc", "clang")


def compile_layers(model: Any, backend: str = "inductor") -> None:  # noqa: ANN401
    """Compile each layer of a model in place: names of weights stay, and all layers share what is compiled.

    Args:
        model: The model, with or without an adapter.
        backend: What torch.compile makes code with.

    Raises:
        StageError: INVALID_SPEC: there is no C compiler.
    """
    if not any(shutil.which(name) for name in (os.environ.get("CC") or "cc", *_COMPILERS)):
        raise StageError(
            Reason.INVALID_SPEC,
            "spec.training.compile: true needs a C compiler, and none is installed here",
            "Write compile: false, or use an image of the trainer with gcc added",
        )
    base = without_adapter(model)
    for layer in base.get_decoder().layers:
        layer.compile(backend=backend)
