"""The families of models of the tasks that answer in one forward pass, by the names of their classes."""

from __future__ import annotations

ENCODERS = ("Bert", "Roberta", "DistilBert", "DebertaV2", "ModernBert", "XLMRoberta")
DECODERS = ("Llama", "Qwen2", "Qwen3", "Phi3", "Mistral", "Gemma")

_ENCODER_CLASSES = (
    "Model",
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
)
_DECODER_CLASSES = ("ForCausalLM", "ForSequenceClassification")

ENCODER_ARCHITECTURES = (
    *(f"{family}{kind}" for family in ENCODERS for kind in _ENCODER_CLASSES),
    "BertForPreTraining",
)
DECODER_ARCHITECTURES = tuple(f"{family}{kind}" for family in DECODERS for kind in _DECODER_CLASSES)


def is_decoder(architecture: str) -> bool:
    """Return whether a class of transformers is one of a decoder, whose tokens attend to those before them only."""
    return architecture.startswith(DECODERS)
