"""Which model architectures can be exported. Imports nothing heavy, so that other stages can ask early."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith_api.failures import Reason, StageError

# Options of the exporter that an architecture needs to come out right, by the class name in the model's config.json.
# Every one of these is exported and compared with torch in tests/integration/publish.
EXPORTABLE: dict[str, tuple[str, ...]] = {
    "GemmaForCausalLM": (),
    # The default layout bounds the keys of local layers by the window, which only the genai runtime's own cache knows.
    "Gemma2ForCausalLM": ("windowed_kv_cache=false",),
    "LlamaForCausalLM": (),
    "MistralForCausalLM": (),
    "Phi3ForCausalLM": (),
    "Qwen2ForCausalLM": (),
    "Qwen3ForCausalLM": (),
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
