"""The base model: an existing one, or a new one with random weights."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from tunesmith_api.spec.base import Rule, SpecModel
from tunesmith_api.tasks import DECODERS


class ScratchSpec(SpecModel):
    """A small model at random weights, with a byte-pair tokenizer trained on the job's own data."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.hiddenSize % self.numAttentionHeads == 0",
            "hiddenSize must be a multiple of numAttentionHeads; "
            "write for example hiddenSize: 256, numAttentionHeads: 4",
            lambda s: s.hidden_size % s.num_attention_heads == 0,
        ),
        Rule(
            f"!(self.architecture in {list(DECODERS)}) || self.numAttentionHeads % self.numKeyValueHeads == 0",
            "numAttentionHeads must be a multiple of numKeyValueHeads; "
            "write for example numAttentionHeads: 4, numKeyValueHeads: 2",
            lambda s: s.architecture not in DECODERS or s.num_attention_heads % s.num_key_value_heads == 0,
        ),
        Rule(
            "(self.hiddenSize / self.numAttentionHeads) % 8 == 0",
            "hiddenSize / numAttentionHeads (the size of a head) must be a multiple of 8; "
            "write for example hiddenSize: 256, numAttentionHeads: 4",
            lambda s: (s.hidden_size // s.num_attention_heads) % 8 == 0,
        ),
    )

    architecture: Literal["llama", "qwen2", "phi3", "bert", "t5"] = Field(
        default="llama",
        description="Architecture of the new model: llama, qwen2 or phi3 to generate text and to classify it, bert to "
        "classify texts and words and to find answers, t5 to translate.",
    )
    hidden_size: int = Field(default=256, ge=16, le=8192, description="Width of the hidden states.")
    intermediate_size: int = Field(default=1024, ge=16, le=32768, description="Width of the feed-forward layers.")
    num_hidden_layers: int = Field(
        default=4, ge=1, le=64, description="Number of transformer layers; of t5 in the encoder and in the decoder."
    )
    num_attention_heads: int = Field(default=4, ge=1, le=64, description="Number of attention heads in each layer.")
    num_key_value_heads: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Number of key and value heads in each layer (grouped-query attention); bert and t5 have as many "
        "as attention heads.",
    )
    vocab_size: int = Field(
        default=2048,
        ge=300,
        le=262144,
        description="Most entries that the tokenizer trained on the data may have; small data gives fewer.",
    )
    max_position_embeddings: int = Field(
        default=1024, ge=32, le=131072, description="Longest sequence that the new model takes, in tokens."
    )


class ModelSpec(SpecModel):
    """The model to fine-tune: an existing one by `uri`, or a small new one by `scratch`."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.uri) != has(self.scratch)",
            "exactly one of uri and scratch must be set; write uri: hf://ORGANISATION/NAME for an existing model, "
            "or scratch: {architecture: llama} for a small new one",
            lambda m: (m.uri is None) != (m.scratch is None),
        ),
        Rule(
            "!has(self.revision) || (has(self.uri) && self.uri.startsWith('hf://'))",
            "revision belongs to hf:// models only; remove it, or write uri: hf://ORGANISATION/NAME",
            lambda m: m.revision is None or (m.uri is not None and m.uri.startswith("hf://")),
        ),
    )

    uri: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        pattern=r"^(hf://[A-Za-z0-9._-]+/[A-Za-z0-9._-]+|(s3|abfs|abfss|az|gs|file|memory)://.+|\.{0,2}/.*)$",
        description="Where the base model is: hf://ORGANISATION/NAME, a folder (/models/x, ./x), or an s3://, abfs://, "
        "gs:// or file:// folder of safetensors in the transformers layout.",
        examples=["hf://HuggingFaceTB/SmolLM2-135M-Instruct"],
    )
    revision: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Branch, tag or commit of an hf:// model. The commit it stands for is recorded in the manifest.",
        examples=["main"],
    )
    scratch: ScratchSpec | None = Field(
        default=None,
        description="Make a small model at random weights instead of loading one: for smoke tests and trials "
        "without a network.",
    )
