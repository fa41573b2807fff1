"""Classification by decoders: the last token of a row has seen all others, so its hidden state stands for the row."""

from __future__ import annotations

from typing import Any

import torch
from transformers.modeling_outputs import SequenceClassifierOutput

from tunesmith_trainer.models.families import is_decoder


def pool_last_token(model: Any) -> Any:  # noqa: ANN401 - a transformers model
    """Let a decoder with a head classify by the last token that the attention mask has; return the model.

    transformers takes the last token that is not the padding token. Where a row itself ends with that token, as with
    models that pad with the one that ends a text, this is another one. Models of other kinds are left as they are.
    """
    if is_decoder(type(model).__name__) and hasattr(model, "score"):

        def forward(
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor | None = None,
            **_: Any,  # noqa: ANN401 - peft names what is not given too
        ) -> SequenceClassifierOutput:
            proper = getattr(model, model.base_model_prefix)
            hidden = proper(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
            mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            return SequenceClassifierOutput(logits=model.score(last(hidden, mask)))

        model.forward = forward
    return model


def last(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the hidden state of the last token of each row, float [rows, width].

    Args:
        hidden: Those of all tokens, float [rows, tokens, width].
        mask: 1 for a token, 0 for padding, which may be on either side, [rows, tokens].
    """
    # Only what a trace for ONNX leaves open in the number of rows and tokens; and no argmax, which is wrong there for
    # whole numbers of 64 bits.
    places = torch.arange(mask.shape[1], device=mask.device, dtype=torch.int64)
    end = (places * mask.to(torch.int64)).amax(1)
    return hidden.gather(1, end[:, None, None].expand(-1, 1, hidden.shape[-1])).squeeze(1)
