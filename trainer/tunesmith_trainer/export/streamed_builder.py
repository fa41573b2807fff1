"""Lets the model builder describe a model without loading it, and write it tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from tunesmith_trainer.export.lazy_weights import LazyMatrix, load_lazily
from tunesmith_trainer.export.streaming import StreamedWeights, save_streamed


@contextmanager
def streamed(builder: Any, *, int8: bool = False) -> Iterator[None]:  # noqa: ANN401 - a module without types
    """Within the context, the builder exports causal language models in bounded memory.

    Args:
        builder: The module `onnxruntime_genai.models.builder`.
        int8: Quantise the products to int8; the builder's precision is fp32.
    """
    base = next(kind for kind in builder.LlamaModel.__mro__ if "make_initializer" in vars(kind))
    right: Callable[..., None] = base.make_initializer
    weights = StreamedWeights()

    def make_initializer(self: Any, tensor: Any, /, name: str, **options: Any) -> None:  # noqa: ANN401
        right(self, tensor, name, **options)
        if isinstance(tensor, LazyMatrix):
            weights.matrices[name] = tensor

    def has_lm_head(self: Any, module: Any) -> bool:  # noqa: ANN401
        # The builder takes any layer with as many outputs as there are tokens for the output layer.
        return module is self.weights.get_output_embeddings()

    replaced = {
        "load_weights": lambda self, input_path: load_lazily(Path(self.model_name_or_path)),
        "make_initializer": make_initializer,
        "has_lm_head": has_lm_head,
        "save_model": lambda self, out_dir: save_streamed(self, weights, Path(out_dir), int8=int8),
    }
    with ExitStack() as stack:
        for name, function in replaced.items():
            stack.enter_context(patch.object(base, name, function))
        # The builder makes layers only to replace their weights. Drawing these at random would take long.
        stack.enter_context(patch.object(torch.nn.Linear, "reset_parameters", lambda self: None))
        yield
