"""Names that tensors had in files of years ago, which transformers still reads: those of BERT's LayerNorms."""

from __future__ import annotations

_PAIRS = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))


def present_name(name: str) -> str:
    """Return the name that transformers gives a tensor of a file."""
    for old, present in _PAIRS:
        name = name.removesuffix(old) + present if name.endswith(old) else name
    return name


def old_name(name: str) -> str:
    """Return the name that a tensor had in old files; the same where it has not changed."""
    for old, present in _PAIRS:
        name = name.removesuffix(present) + old if name.endswith(present) else name
    return name
