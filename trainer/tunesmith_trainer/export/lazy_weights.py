"""A transformers model whose matrices are read from its files when they are needed, one at a time.

The model builder reshapes, joins and casts weights before it writes them. A lazy matrix records these operations on its
shape and type alone, and computes its values on request. Vectors (norms, biases) are small; they are read at once, in
fp32 as transformers computes with them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from tunesmith_trainer.models.weights import WeightFiles

SLICE = 1 << 22
"""Weights that are converted in one go: 16 MiB in fp32."""


class LazyMatrix(torch.Tensor):
    """A tensor that knows its shape and type, and how to compute its values."""

    _meta: torch.Tensor
    _compute: Callable[[], torch.Tensor]

    @staticmethod
    def __new__(cls: type[LazyMatrix], meta: torch.Tensor, compute: Callable[[], torch.Tensor]) -> LazyMatrix:
        """Return a lazy tensor, given one of its shape and type on the meta device, and what computes its values."""
        made: LazyMatrix = torch.Tensor._make_wrapper_subclass(
            cls, meta.shape, strides=meta.stride(), dtype=meta.dtype, device="cpu"
        )
        made._meta = meta
        made._compute = compute
        return made

    def load(self) -> torch.Tensor:
        """Return the values. They are computed anew each time."""
        with torch.no_grad():
            return self._compute()

    def __repr__(self, *, tensor_contents: object = None) -> str:
        """Return the shape and type."""
        return f"LazyMatrix({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Record an operation."""
        given = kwargs or {}

        def run(get: Callable[[LazyMatrix], torch.Tensor]) -> Any:  # noqa: ANN401
            return func(*tree_map_only(cls, get, args), **tree_map_only(cls, get, given))

        meta = run(lambda lazy: lazy._meta)
        if not isinstance(meta, torch.Tensor):
            raise NotImplementedError(f"{func} of a weight that is not loaded")
        return cls(meta, lambda: run(cls.load))


def load_lazily(folder: Path) -> Any:  # noqa: ANN401 - a transformers model
    """Return the causal language model in a folder with lazy matrices, in the type in which they are stored.

    All else is in fp32.

    Raises:
        ValueError: A weight is missing in the files.
    """
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    files = WeightFiles(folder)
    present = files.names()
    tied = {**model.all_tied_weights_keys, **{source: name for name, source in model.all_tied_weights_keys.items()}}
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        source = name if name in present else tied.get(name)
        if source not in present:
            raise ValueError(f"{folder} has no weight {name}")
        owner, _, attribute = name.rpartition(".")
        values = _matrix(files, source) if parameter.ndim > 1 else files[source].float()
        setattr(model.get_submodule(owner), attribute, torch.nn.Parameter(values, requires_grad=False))
    return model.eval()


def _matrix(files: WeightFiles, name: str) -> LazyMatrix:
    dtype = getattr(torch, files.type_name(name))
    return LazyMatrix(torch.empty(files.shape(name), dtype=dtype, device="meta"), lambda: files[name])
