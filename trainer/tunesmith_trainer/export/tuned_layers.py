"""The tuned model, computed layer by layer: each layer's weights are in memory, in fp32, only while it computes."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.export.lazy_weights import LazyMatrix, load_lazily
from tunesmith_trainer.export.long_rows import LongRow, long_row
from tunesmith_trainer.models.loading import context_length

_PRODUCT = re.compile(r"^/model/layers\.(?P<layer>\d+)/(?P<block>attn|mlp)/(?P<part>\w+_proj)/")

Visit = Callable[[str, torch.Tensor, torch.Tensor], None]


class TunedLayers:
    """A causal language model whose layers are loaded one at a time."""

    def __init__(self, folder: Path) -> None:
        self._model = load_lazily(folder)
        self._decoder = self._model.get_decoder()

    @property
    def layers(self) -> int:
        """The number of decoder layers."""
        return len(self._decoder.layers)

    def long_row(self, store: TokenStore) -> LongRow | None:
        """Return a row that is longer than the model's window and original rope length, or None if it has neither."""
        return long_row(self._model.config, store, context_length(self._model))

    def one_of_each_kind(self) -> list[int]:
        """Return the first layer of each kind: with a sliding window, and without."""
        kinds = getattr(self._model.config, "layer_types", None) or ["full_attention"] * self.layers
        return sorted({kind: index for index, kind in reversed(list(enumerate(kinds)))}.values())

    def matrix(self, node: str) -> torch.Tensor:
        """Return the matrix [outputs, inputs] that a node of the export multiplies by, or looks rows up in.

        Args:
            node: The node's name, as the builder gives it; products may be merged.

        Raises:
            ValueError: The model has no such matrix.
        """
        matrix = self._matrix(node)
        if matrix is None:
            raise ValueError(f"{node} is no product or look-up of the model")
        return matrix.load() if isinstance(matrix, LazyMatrix) else matrix

    def _matrix(self, node: str) -> torch.Tensor | None:
        if node.startswith("/lm_head/MatMul"):
            return self._weight(self._model.get_output_embeddings())
        if node.startswith("/model/embed_tokens/Gather"):
            return self._weight(self._model.get_input_embeddings())
        found = _PRODUCT.match(node)
        if not found:
            return None
        layer = self._decoder.layers[int(found["layer"])]
        block, part = layer.self_attn if found["block"] == "attn" else layer.mlp, found["part"]
        if hasattr(block, part):
            return self._weight(getattr(block, part))
        if part == "qkv_proj":
            parts = [self._weight(getattr(block, name)) for name in ("q_proj", "k_proj", "v_proj")]
        elif part == "gate_up_proj":
            parts = [self._weight(getattr(block, name)) for name in ("gate_proj", "up_proj")]
        else:
            both = self._weight(block.gate_up_proj)
            half = len(both) // 2
            return both[:half] if part == "gate_proj" else both[half:]
        return torch.cat(parts)

    @staticmethod
    def _weight(module: Any) -> torch.Tensor:  # noqa: ANN401 - a torch module
        weight: torch.Tensor = module.weight
        return weight

    def run(self, ids: Sequence[int], logits: int, visit: Visit, layers: Collection[int] | None = None) -> None:
        """Compute a row of tokens.

        Args:
            ids: Token ids.
            logits: How many of the last positions' logits are computed.
            layers: The layers that are computed; the others pass their input on. All by default.
            visit: Called after the `embedding`, each layer (`layer 0`, ...) and the `output layer`, with this name, the
                input and the output, float32 [tokens, size]. The embedding's input are the ids; the output layer's is
                the output of the last layer, and its output the logits.
        """
        last: list[torch.Tensor] = []

        def after_embedding(module: Any, given: Any, output: torch.Tensor) -> None:  # noqa: ANN401
            visit("embedding", torch.tensor(ids), output[0])

        def after_layer(index: int) -> Callable[[Any, Any, Any, Any], None]:
            def hook(module: Any, given: Any, named: Any, output: Any) -> None:  # noqa: ANN401
                hidden = given[0] if given else named["hidden_states"]
                result = output[0] if isinstance(output, tuple) else output
                last[:] = [result[0]]
                visit(f"layer {index}", hidden[0], result[0])

            return hook

        handles = [self._model.get_input_embeddings().register_forward_hook(after_embedding)]
        computed = []
        for index, layer in enumerate(self._decoder.layers):
            if layers is None or index in layers:
                computed.append(layer)
                handles.append(layer.register_forward_hook(after_layer(index), with_kwargs=True))
        parts = [*computed, self._model.get_input_embeddings(), self._model.get_output_embeddings()]
        try:
            skipped = [layer for layer in self._decoder.layers if layer not in computed]
            with _loaded_while_used(parts), _passing(skipped), torch.inference_mode():
                found = self._model(input_ids=torch.tensor([list(ids)]), use_cache=False, logits_to_keep=logits).logits[
                    0
                ]
                visit("output layer", last[0][-logits:], found)
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def _passing(layers: Sequence[Any]) -> Iterator[None]:
    """Within the context, layers return their input."""
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(patch.object(layer, "forward", lambda hidden_states, *given, **named: hidden_states))
        yield


@contextmanager
def _loaded_while_used(parts: Sequence[Any]) -> Iterator[None]:
    """Within the context, each of the modules has its values in fp32 while it computes."""
    lazy: dict[Any, dict[str, Any]] = {}

    def load(part: Any, given: Any) -> None:  # noqa: ANN401
        for module in part.modules():
            kept = {name: weight for name, weight in module._parameters.items() if isinstance(weight, LazyMatrix)}
            lazy[module] = kept
            for name, weight in kept.items():
                module._parameters[name] = torch.nn.Parameter(weight.load().float(), requires_grad=False)

    def drop(part: Any, given: Any, output: Any) -> None:  # noqa: ANN401
        for module in part.modules():
            module._parameters.update(lazy.pop(module, {}))

    handles = [part.register_forward_pre_hook(load) for part in parts]
    # Last of all hooks, so that the values are there for the others.
    handles += [part.register_forward_hook(drop, always_call=True) for part in parts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
