"""Trains the tokenizer of a new model on the rows: byte-level BPE, with the special tokens of its architecture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tunesmith_api.spec import ScratchSpec
from tunesmith_trainer.data.chat_templates import CHATML, END, START

PAD = "<|endoftext|>"


@dataclass(frozen=True)
class _Style:
    """What the tokenizers of an architecture have.

    Attributes:
        special: The special tokens, in the order of their ids.
        names: What transformers calls them.
        single: What is made of one text: `$A` is the text. Empty: nothing is added.
        pair: What is made of two texts, `$A` and `$B`; `:1` is the token type.
        joins_words: Whether a word that stands first has the tokens that it has after a space. Words that come one by
            one, with a tag each, then have the tokens that they have in a text.
        settings: Further settings of the tokenizer.
    """

    special: tuple[str, ...]
    names: dict[str, str]
    single: str = ""
    pair: str = ""
    joins_words: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


_DECODER = _Style((PAD, START, END), {"eos_token": END, "pad_token": PAD}, settings={"chat_template": CHATML})
_STYLES = {
    "bert": _Style(
        ("[PAD]", "[CLS]", "[SEP]", "[MASK]"),
        {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"},
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        joins_words=True,
        settings={"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]},
    ),
    "t5": _Style(
        ("<pad>", "</s>"),
        {"pad_token": "<pad>", "eos_token": "</s>"},
        single="$A </s>",
        pair="$A </s> $B </s>",
        settings={"model_input_names": ["input_ids", "attention_mask"]},
    ),
}


def train_tokenizer(texts: Iterable[str], spec: ScratchSpec) -> Any:  # noqa: ANN401 - transformers has no types
    """Return a byte-level BPE tokenizer (transformers, fast) of at most `spec.vocab_size` tokens.

    A decoder's has ChatML as its template.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    style = _STYLES.get(spec.architecture, _DECODER)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=style.joins_words)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocab_size,
        special_tokens=list(style.special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if style.single:
        used = [(token, tokenizer.token_to_id(token)) for token in style.special if token in style.pair]
        template = processors.TemplateProcessing(single=style.single, pair=style.pair, special_tokens=used)
        # Offsets are those of the letters, without the space before them.
        trimmed = processors.ByteLevel(trim_offsets=True)
        tokenizer.post_processor = processors.Sequence([trimmed, template]) if style.joins_words else template
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=spec.max_position_embeddings,
        clean_up_tokenization_spaces=False,
        **style.names,
        **style.settings,
    )
