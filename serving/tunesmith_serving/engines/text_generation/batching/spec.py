"""The sizes of an exported decoder."""

from dataclasses import dataclass

from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.runtime.errors import ArtifactError


@dataclass(frozen=True)
class DecoderSpec:
    """The sizes of the model, from genai_config.json."""

    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocab_size: int
    context_length: int
    eos_token_ids: frozenset[int]


def read_spec(artifact: Artifact) -> DecoderSpec:
    """Read the sizes of the model from genai_config.json.

    Raises:
        ArtifactError: A size is missing or not a whole number.
    """
    config = artifact.read_json("genai_config.json")
    path = artifact.onnx / "genai_config.json"
    try:
        model = config["model"]
        decoder = model["decoder"]
        eos = model.get("eos_token_id", [])
        return DecoderSpec(
            layers=int(decoder["num_hidden_layers"]),
            heads=int(decoder["num_attention_heads"]),
            kv_heads=int(decoder["num_key_value_heads"]),
            head_size=int(decoder["head_size"]),
            vocab_size=int(model["vocab_size"]),
            context_length=int(model["context_length"]),
            eos_token_ids=frozenset(int(token) for token in (eos if isinstance(eos, list) else [eos])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} lacks a usable {error}; export the model again") from None
