"""What models with an encoder and a decoder compute: logits of given targets, and greedy answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from tunesmith_trainer.evaluate.one_pass import padded_inputs
from tunesmith_trainer.models.encoder_decoder import answer_tokens_of
from tunesmith_trainer.models.loading import without_adapter

Ids = Sequence[int]


@torch.inference_mode()
def target_logits(model: Any, sources: Sequence[Ids], inputs: Sequence[Ids]) -> torch.Tensor:  # noqa: ANN401
    """Return the logits after each token that the decoder is given, float [rows, longest, vocabulary].

    Args:
        model: The model, or one with an adapter.
        sources: Token ids of each source.
        inputs: Token ids that the decoder is given for each, the start token first. Rows are padded on the right.
    """
    model = without_adapter(model)
    pad = answer_tokens_of(model).pad
    given = {name: value.to(model.device) for name, value in padded_inputs(sources, pad).items()}
    decoder = padded_inputs(inputs, pad)["input_ids"].to(model.device)
    logits: torch.Tensor = model(**given, decoder_input_ids=decoder, use_cache=False).logits
    return logits


@torch.inference_mode()
def greedy(
    model: Any,  # noqa: ANN401
    sources: Sequence[Ids],
    limits: Sequence[int],
    *,
    stops: bool = True,
    on_step: Callable[[], None] = lambda: None,
) -> list[list[int]]:
    """Return the greedy answer to each source, without the start and stop tokens.

    A row leaves the batch as soon as it is done.

    Args:
        model: The model, or one with an adapter.
        sources: Token ids of each source.
        limits: Most tokens of each answer, at least one. A first token that is forced, such as a language, is one.
        stops: Whether stop tokens end an answer; if not, it has as many tokens as its limit says.
        on_step: Called after each run of the decoder.
    """
    model = without_adapter(model)
    tokens = answer_tokens_of(model)
    stop = frozenset(tokens.stop) if stops else frozenset()
    answers = [tokens.prefix[1:] for _ in sources]
    given = {name: value.to(model.device) for name, value in padded_inputs(sources, tokens.pad).items()}
    hidden, mask = model.get_encoder()(**given).last_hidden_state, given["attention_mask"]
    rows = list(range(len(sources)))
    # Not `use_cache` alone: for a decoder with another number of layers than the encoder, T5 makes a wrong cache.
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    step = torch.tensor([tokens.prefix] * len(rows), device=model.device)
    while rows:
        logits = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            attention_mask=mask,
            decoder_input_ids=step,
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        logits[:, tokens.pad] = -torch.inf
        chosen = logits.argmax(-1)
        on_step()
        kept = []
        for slot, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            if token in stop or len(answers[row]) >= limits[row]:
                continue
            answers[row].append(token)
            if len(answers[row]) < limits[row]:
                kept.append(slot)
        step = chosen.unsqueeze(1)
        if len(kept) < len(rows):
            rows = [rows[slot] for slot in kept]
            if not rows:
                break
            slots = torch.tensor(kept, device=model.device)
            cache.batch_select_indices(slots)
            hidden, mask, step = hidden[slots], mask[slots], step[slots]
    return answers
