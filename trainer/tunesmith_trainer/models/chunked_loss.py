"""The loss of a causal language model, computed in its forward pass, without all logits at the same time.

The last layer and the loss are computed for some positions after the other, and again in the backward pass: of the
logits, [positions, vocabulary], only those of `LOGITS_CHUNK // vocabulary` positions exist at a time, forward and
backward. It works with adapters, where the last layer is frozen, as well as in full training; under ZeRO 3 each call of
the last layer gathers its weights.
"""

from __future__ import annotations

import functools
import types
from typing import Any, Literal

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import CausalLMOutput

from tunesmith_api.choices.speed import LOGITS_CHUNK, LOGITS_WHOLE
from tunesmith_trainer.data.targets import IGNORE_INDEX
from tunesmith_trainer.models.loading import without_adapter
from tunesmith_trainer.models.loss import sums_of_rows

_KNOWN = frozenset(
    f"{name}ForCausalLM" for name in ("Gemma", "Gemma2", "Llama", "Mistral", "Phi3", "Qwen2", "Qwen3")
)  # whose logits are those of the last layer, with a soft cap or without


def can_compute_loss(model: Any) -> bool:  # noqa: ANN401
    """Return whether a model, with or without an adapter, is one that `compute_loss_in_forward` knows."""
    return type(without_adapter(model)).__name__ in _KNOWN


def compute_loss_in_forward(model: Any, *, by_row: bool = False) -> None:  # noqa: ANN401
    """Let a model compute its loss when it is called with `targets`.

    These are the labels of the kept positions, int64 [rows, positions]. The output then has the summed loss of the
    targets, in nats, as `loss`, and no logits.

    Args:
        model: The model, with or without an adapter.
        by_row: Whether the loss is summed for each row, float32 [rows], instead of over all.
    """
    base = without_adapter(model)
    logits_forward = base.forward

    @functools.wraps(logits_forward)
    def forward(self: Any, *inputs: Any, targets: torch.Tensor | None = None, **options: Any) -> Any:  # noqa: ANN401
        if targets is None:
            return logits_forward(*inputs, **options)
        kept = options.pop("logits_to_keep", slice(None))
        hidden = self.get_decoder()(*inputs, **{**options, "use_cache": False}).last_hidden_state[:, kept]
        loss = _row_losses(self, hidden, targets) if by_row else _head_loss(self, hidden, targets)
        return CausalLMOutput(loss=loss)

    base.forward = types.MethodType(forward, base)
    base.computes_loss = True


def computes_loss(model: Any) -> bool:  # noqa: ANN401
    """Return whether `compute_loss_in_forward` was called for a model."""
    return getattr(without_adapter(model), "computes_loss", False)


def _head_loss(model: Any, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
    """Return the summed loss, float32 [].

    Args:
        model: The causal language model.
        hidden: [rows, positions, width], what its last layer reads.
        targets: int64 [rows, positions], `IGNORE_INDEX` where there is none.
    """
    is_target = targets.ne(IGNORE_INDEX)
    # In a single row all kept positions are targets; counting them would make a GPU wait.
    if len(targets) > 1 and int(is_target.sum()) * 2 < targets.numel():
        hidden, targets = hidden[is_target], targets[is_target]
    else:
        hidden, targets = hidden.flatten(0, 1), targets.flatten()

    found = _losses(model, hidden, targets, "sum")
    total = found[0]
    for part in found[1:]:
        total = total + part
    return total


def _row_losses(model: Any, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
    """Return the summed loss of each row, float32 [rows]; the arguments are those of `_head_loss`."""
    is_target = targets.ne(IGNORE_INDEX)
    return sums_of_rows(torch.cat(_losses(model, hidden[is_target], targets[is_target], "none")), is_target)


def _losses(
    model: Any,  # noqa: ANN401
    hidden: torch.Tensor,
    targets: torch.Tensor,
    reduction: Literal["sum", "none"],
) -> list[torch.Tensor]:
    """Return the losses of some positions in pieces: of each piece the sum, float32 [], or all of them, float32 [n].

    Args:
        model: The causal language model.
        hidden: [positions, width].
        targets: int64 [positions].
        reduction: Whether the losses of a piece are added up.
    """

    def part(some: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return cross_entropy(head_logits(model, some).float(), wanted, reduction=reduction, ignore_index=IGNORE_INDEX)

    vocab_size = model.config.get_text_config().vocab_size
    pieces = _pieces(model.get_output_embeddings(), len(targets) * vocab_size, hidden.device)
    if pieces == 1:
        return [part(hidden, targets)]
    parts = zip(hidden.tensor_split(pieces), targets.tensor_split(pieces), strict=True)
    return [checkpoint(part, some, wanted, use_reentrant=False) for some, wanted in parts]


def head_logits(model: Any, hidden: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
    """Return the logits, [positions, vocabulary], of what the last layer of a known model reads, [positions, width]."""
    logits: torch.Tensor = model.get_output_embeddings()(hidden)
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap


def _pieces(head: Any, logits: int, device: torch.device) -> int:  # noqa: ANN401
    """Return the number of pieces that so many logits are computed in.

    Under ZeRO 3, where each call of the layer gathers its weights from all processes, it is the same on all of them.
    """
    pieces = 1 if logits <= LOGITS_WHOLE else -(-logits // LOGITS_CHUNK)
    if any(hasattr(parameter, "ds_id") for parameter in head.parameters()):
        most = torch.tensor(pieces, device=device)
        torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
        pieces = int(most)
    return pieces
