"""Traces a model into an ONNX graph."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith_trainer.models.families import is_decoder
from tunesmith_trainer.models.last_token import last

MODEL = "model.onnx"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_OPSET = 18
_LARGE = 1_500_000_000  # bytes of weights; a file in protobuf's format takes 2 GiB at most


class _Encoder(nn.Module):
    """A model whose outputs are named."""

    def __init__(self, model: Any, names: Sequence[str]) -> None:  # noqa: ANN401
        super().__init__()
        self.model, self._names = model, tuple(names)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.model(**dict(zip(INPUTS, inputs, strict=False)))
        return tuple(getattr(found, name) for name in self._names)


class _Decoder(nn.Module):
    """A decoder with a head, which classifies by the last token of the mask wherever the padding is."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        proper = getattr(self.model, self.model.base_model_prefix)
        found = proper(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
        logits: torch.Tensor = self.model.score(last(found.last_hidden_state, mask))
        return logits


def load_for_export(folder: Path, model_class: Any) -> Any:  # noqa: ANN401
    """Return a model in fp32 with attention that is written out, as a trace needs it.

    Args:
        folder: The model in the transformers layout.
        model_class: One of transformers' Auto classes.
    """
    return model_class.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", use_safetensors=True, local_files_only=True
    ).eval()


def write_graph(model: Any, folder: Path, outputs: Sequence[str], *, per_token: bool) -> None:  # noqa: ANN401
    """Write `model.onnx`, whose number of rows and of tokens is open.

    Args:
        model: The model from `load_for_export`.
        folder: The folder.
        outputs: Names of its outputs.
        per_token: Whether these have a value for each token.
    """
    decoder = is_decoder(type(model).__name__)
    types = getattr(model.config, "type_vocab_size", 0) > 1
    names = INPUTS if types else INPUTS[:2]
    # Two rows of which one is padded, so that nothing of this shape can become a part of the graph unnoticed.
    ids = torch.full((2, 9), 1, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    given = (ids, mask, torch.zeros_like(ids))[: len(names)]
    axes = {name: {0: "batch", 1: "sequence"} for name in names}
    axes |= {name: {0: "batch", 1: "sequence"} if per_token else {0: "batch"} for name in outputs}
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Python's numbers become constants; the comparison finds where it matters
        torch.onnx.export(
            _Decoder(model) if decoder else _Encoder(model, outputs),
            given,
            folder / MODEL,
            input_names=list(names),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )
    if sum(weight.numel() * 4 for weight in model.parameters()) > _LARGE:
        _gather(folder)


def _gather(folder: Path) -> None:
    """Write the weights of a large model, which torch has put into a file each, into one file beside the graph."""
    import onnx

    before = {path for path in folder.iterdir() if path.name != MODEL}
    graph = onnx.load(folder / MODEL)
    for path in before:
        path.unlink()
    save(graph, folder / MODEL)


def save(graph: Any, path: Path, *, large: bool = True) -> None:  # noqa: ANN401 - onnx.ModelProto
    """Write a graph, with its weights in a file beside it if it is large."""
    import onnx

    if not large:
        onnx.save(graph, path)
        return
    onnx.save(graph, path, save_as_external_data=True, all_tensors_to_one_file=True, location=f"{path.name}.data")
