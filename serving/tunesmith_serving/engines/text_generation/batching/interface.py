"""What a graph must have to be served as a decoder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_serving.engines.providers import CPU_PROVIDER, Provider
from tunesmith_serving.runtime.errors import ArtifactError

KV_TYPES: dict[str, npt.DTypeLike] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(bfloat16)": np.uint16,
    "tensor(int8)": np.int8,
}
ONNX_TYPES = {"tensor(float)": 1, "tensor(int8)": 3, "tensor(float16)": 10, "tensor(bfloat16)": 16}
LOGITS_TYPES: dict[str, npt.DTypeLike] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def check_interface(
    path: Path,
    cache: Sequence[tuple[str, str]],
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    provider: Provider,
) -> None:
    """Check what a graph takes and returns.

    Args:
        path: Its file.
        cache: Names of the inputs and outputs with keys and values.
        inputs: Its inputs by their names.
        outputs: Its outputs by their names.
        provider: The execution provider that computes it.

    Raises:
        ArtifactError: It is not a decoder with keys and values, or the provider does not serve it.
    """
    needed = {"input_ids", "attention_mask", *(past for past, _ in cache)}
    wrong = sorted((set(inputs) - needed - {"position_ids"}) | (needed - set(inputs)))
    missing = sorted({"logits", *(present for _, present in cache)} - set(outputs))
    if wrong or missing:
        raise ArtifactError(
            f"{path} is not a decoder with past and present keys and values "
            f"(inputs that do not fit: {', '.join(wrong) or 'none'}; missing outputs: {', '.join(missing)})"
        )
    kept = inputs[cache[0][0]].type
    if outputs["logits"].type not in LOGITS_TYPES or kept not in KV_TYPES:
        raise ArtifactError(f"{path} has logits or keys of a type that is not served; export it for the CPU")
    if KV_TYPES[kept] is np.int8 and provider.name != CPU_PROVIDER.name:
        raise ArtifactError(
            f"{path} keeps keys and values in int8, which executionProvider {provider.name} is not served with; write "
            "executionProvider: cpu, or train again without export.kvCache"
        )
