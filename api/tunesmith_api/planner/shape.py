"""The sizes of a model, read from its config.json: no weights, no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from tunesmith_api.spec import ScratchSpec

_DTYPE_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}

# What differs between the families of decoders with a gated feed-forward, by `model_type`.
_FUSED = ("phi3",)  # one layer computes query, key and value, another gate and up
_FOUR_NORMS = ("gemma2", "gemma3_text")  # a norm before and after each half of a layer
_HEAD_NORMS = ("qwen3", "gemma3_text")  # a norm of the queries and one of the keys
_TIED_BY_DEFAULT = ("gemma", "gemma2", "gemma3_text")
_EAGER_ONLY = ("gemma2",)  # softcapping: the attention matrix is computed as a whole
_GATED = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "gemma3_text", "granite", "smollm3")
_IN_PIECES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2")  # models/chunked_loss.py
_NEEDED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


Place = Literal["attention", "mixed", "feedForward", "product"]


class UnknownModel(ValueError):  # noqa: N818 - the agreed name
    """A configuration that the planner cannot compute sizes from; its text says why."""


@dataclass(frozen=True)
class Linear:
    """A linear layer.

    Attributes:
        name: The end of its name, as `adapter.targetModules` has it.
        place: What it reads: the first norm (`attention`), the attention's result (`mixed`), the second norm
            (`feedForward`), or the gated product (`product`).
        inputs: Features that go in.
        outputs: Features that come out.
        bias: Whether it adds a bias.
    """

    name: str
    place: Place
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def weights(self) -> int:
        """The number of elements of its matrix."""
        return self.inputs * self.outputs

    @property
    def parameters(self) -> int:
        """The number of its parameters."""
        return self.weights + (self.outputs if self.bias else 0)


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder with a gated feed-forward.

    Attributes:
        model_type: The family, as config.json names it.
        layers: Number of decoder layers.
        hidden: Width of the hidden states.
        intermediate: Width of the feed-forward.
        heads: Heads of the queries.
        kv_heads: Heads of the keys and values.
        head_dim: Width of a head.
        vocabulary: Rows of the embedding.
        tied: Whether the output layer is the embedding.
        linears: The linear layers of one decoder layer.
        norms: Elements of the norms of one decoder layer, for each norm.
        stored_bytes: Bytes of a weight in the type in which the model is stored.
        positions: Longest sequence that the model takes; None if config.json has no limit.
    """

    model_type: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    linears: tuple[Linear, ...]
    norms: tuple[int, ...]
    stored_bytes: int
    positions: int | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the sizes of the model that a config.json describes.

        Args:
            config: The file's content, as transformers 4 or 5 writes it.

        Raises:
            UnknownModel: A size is missing, or the planner does not know the family.
        """
        family = config.get("model_type")
        if family not in _GATED:
            raise UnknownModel(
                f"config.json: the planner does not know model_type {family!r}; it knows {', '.join(_GATED)}"
            )
        if any(config.get(name) for name in ("num_experts", "num_local_experts", "n_routed_experts")):
            raise UnknownModel("config.json: the planner does not know models with experts")
        if config.get("quantization_config"):
            raise UnknownModel("config.json: the planner does not know weights that are stored quantized")
        sizes = {name: _size(config, name) for name in _NEEDED}
        hidden, intermediate, heads = sizes["hidden_size"], sizes["intermediate_size"], sizes["num_attention_heads"]
        kv_heads = int(config.get("num_key_value_heads") or heads)
        head_dim = int(config.get("head_dim") or hidden // heads)
        positions = config.get("max_position_embeddings")
        return cls(
            model_type=family,
            layers=sizes["num_hidden_layers"],
            hidden=hidden,
            intermediate=intermediate,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            vocabulary=sizes["vocab_size"],
            tied=bool(config.get("tie_word_embeddings", family in _TIED_BY_DEFAULT)),
            linears=tuple(_linears(family, config, hidden, intermediate, heads * head_dim, kv_heads * head_dim)),
            norms=tuple(_norms(family, hidden, head_dim)),
            stored_bytes=_stored_bytes(config),
            positions=int(positions) if positions else None,
        )

    @classmethod
    def of_scratch(cls, scratch: ScratchSpec) -> Self:
        """Return the sizes of a model from scratch, with as large a vocabulary as its tokenizer may have.

        Raises:
            UnknownModel: The planner does not know the architecture.
        """
        if scratch.architecture not in _GATED:
            raise UnknownModel(
                f"model.scratch: the planner does not know the architecture {scratch.architecture}; "
                f"it knows {', '.join(_GATED)}"
            )
        return cls.from_config(
            {
                "model_type": scratch.architecture,
                "hidden_size": scratch.hidden_size,
                "intermediate_size": scratch.intermediate_size,
                "num_hidden_layers": scratch.num_hidden_layers,
                "num_attention_heads": scratch.num_attention_heads,
                "num_key_value_heads": scratch.num_key_value_heads,
                "vocab_size": scratch.vocab_size,
                "max_position_embeddings": scratch.max_position_embeddings,
                "tie_word_embeddings": False,
                "dtype": "float32",
            }
        )

    @property
    def embedding(self) -> int:
        """Elements of the embedding, and of the output layer."""
        return self.vocabulary * self.hidden

    @property
    def layer_parameters(self) -> int:
        """Parameters of one decoder layer."""
        return sum(linear.parameters for linear in self.linears) + sum(self.norms)

    @property
    def parameters(self) -> int:
        """Parameters of the whole model, tied ones once."""
        return self.embedding * (1 if self.tied else 2) + self.layers * self.layer_parameters + self.hidden

    @property
    def matrix_parameters(self) -> int:
        """Parameters that each token is multiplied with: all but the embedding, which is looked up."""
        return self.layers * sum(linear.weights for linear in self.linears) + self.embedding

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights in the type in which they are stored."""
        return self.parameters * self.stored_bytes

    @property
    def query(self) -> int:
        """Width of the queries of all heads."""
        return self.heads * self.head_dim

    @property
    def key(self) -> int:
        """Width of the keys of all heads."""
        return self.kv_heads * self.head_dim

    @property
    def fused(self) -> bool:
        """Whether one layer computes query, key and value, whose results are parts of one tensor."""
        return self.model_type in _FUSED

    @property
    def head_norms(self) -> bool:
        """Whether queries and keys are normed."""
        return self.model_type in _HEAD_NORMS

    @property
    def layer_norms(self) -> int:
        """Norms of the hidden states in a layer: two, or four with one after each half."""
        return 4 if self.model_type in _FOUR_NORMS else 2

    @property
    def computes_loss(self) -> bool:
        """Whether training computes the loss of many positions in pieces."""
        return self.model_type in _IN_PIECES

    def reading(self, place: Place) -> tuple[Linear, ...]:
        """Return the linear layers of a decoder layer that read the same."""
        return tuple(linear for linear in self.linears if linear.place == place)

    @property
    def computes_whole_attention(self) -> bool:
        """Whether the attention matrix is kept as a whole, for want of a fused kernel."""
        return self.model_type in _EAGER_ONLY


def _size(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UnknownModel(f"config.json: {name} is {'missing' if value is None else repr(value)}; it must be a size")
    return value


def _stored_bytes(config: Mapping[str, Any]) -> int:
    """Return the bytes of a stored weight; transformers 5 writes `dtype`, 4 wrote `torch_dtype`; fp32 by default."""
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")
    if name not in _DTYPE_BYTES:
        raise UnknownModel(f"config.json: dtype {name!r} is not known; it must be one of {', '.join(_DTYPE_BYTES)}")
    return _DTYPE_BYTES[name]


def _linears(
    family: str, config: Mapping[str, Any], hidden: int, intermediate: int, query: int, key: int
) -> Iterator[Linear]:
    """Return the linear layers of a decoder layer, in the order in which they compute."""
    if family in _FUSED:
        yield Linear("qkv_proj", "attention", hidden, query + 2 * key)
        yield Linear("o_proj", "mixed", query, hidden)
        yield Linear("gate_up_proj", "feedForward", hidden, 2 * intermediate)
        yield Linear("down_proj", "product", intermediate, hidden)
        return
    bias = bool(config.get("attention_bias", False)) or family == "qwen2"
    output_bias = bool(config.get("attention_bias", False)) and family != "qwen2"
    mlp_bias = bool(config.get("mlp_bias", False))
    yield Linear("q_proj", "attention", hidden, query, bias)
    yield Linear("k_proj", "attention", hidden, key, bias)
    yield Linear("v_proj", "attention", hidden, key, bias)
    yield Linear("o_proj", "mixed", query, hidden, output_bias)
    yield Linear("gate_proj", "feedForward", hidden, intermediate, mlp_bias)
    yield Linear("up_proj", "feedForward", hidden, intermediate, mlp_bias)
    yield Linear("down_proj", "product", intermediate, hidden, mlp_bias)


def _norms(family: str, hidden: int, head_dim: int) -> list[int]:
    norms = [hidden] * (4 if family in _FOUR_NORMS else 2)
    return norms + ([head_dim, head_dim] if family in _HEAD_NORMS else [])
