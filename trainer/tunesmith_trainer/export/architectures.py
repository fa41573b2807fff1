"""The architectures that can be exported. Imports no torch, so that prepare can check early."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith_api.failures import Reason, StageError

# The exporter's options that each architecture needs for a right export, by the class name in config.json.
# tests/integration/publish exports each of these and compares it with torch.
EXPORTABLE: dict[str, tuple[str, ...]] = {
    "GemmaForCausalLM": (),
    "Gemma2ForCausalLM": (),
    "LlamaForCausalLM": (),
    "MistralForCausalLM": (),
    "Phi3ForCausalLM": (),
    "Qwen2ForCausalLM": (),
    "Qwen3ForCausalLM": ("fuse_qk_norm_gqa=false",),
}


def export_options(architectures: Sequence[str] | None) -> tuple[str, ...]:
    """Return the exporter's `key=value` options for a model.

    Args:
        architectures: `architectures` of the model's config.json.

    Raises:
        StageError: The architecture cannot be exported.
    """
    name = architectures[0] if architectures else "(none named in config.json)"
    if name not in EXPORTABLE:
        raise StageError(
            Reason.EXPORT_FAILED,
            f"the architecture {name} cannot be exported to ONNX",
            f"Use a base model of one of these: {', '.join(sorted(EXPORTABLE))}",
        )
    return EXPORTABLE[name]
