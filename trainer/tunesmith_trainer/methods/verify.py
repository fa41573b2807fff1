"""Checks a trained adapter against its spec, and merged weights against the formula, apart from peft's own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import AdapterSpec
from tunesmith_trainer.models.weights import WeightFiles, open_safetensors
from tunesmith_trainer.storage.files import read_json

_PREFIX = "base_model.model."
_AGAIN = "Start a new job with the same spec; if it fails again, report it: the artifact was not written"

# Merging in fp32 rounds to about 1e-7 of a weight; a wrong alpha or rank is off by percents.
_TOLERANCE = 1e-5


def unfaithful(message: str, remedy: str = _AGAIN) -> StageError:
    """Return the error for a result that is not what was trained."""
    return StageError(Reason.PARITY_FAILED, message, remedy)


class AdapterWeights:
    """The tensors of a trained adapter by the name of the layer that they belong to.

    Attributes:
        layers: Full names of the layers that have an adapter.
    """

    def __init__(self, folder: Path) -> None:
        self._file = open_safetensors(folder / "adapter_model.safetensors")
        self._names = set(self._file.keys())
        self.layers = sorted(
            {name.removeprefix(_PREFIX).removesuffix(".lora_A.weight") for name in self._names if ".lora_A." in name}
        )

    def get(self, layer: str, part: str) -> torch.Tensor:
        """Return a tensor of a layer in fp32: `lora_A` [rank, in], `lora_B` [out, rank] or the magnitudes [out].

        Raises:
            StageError: The adapter has no such tensor, or it is not finite or not fp32.
        """
        name = next(
            (n for n in (f"{_PREFIX}{layer}.{part}.weight", f"{_PREFIX}{layer}.{part}") if n in self._names), ""
        )
        if not name:
            raise unfaithful(f"the adapter has no {part} for the layer {layer}")
        tensor = self._file.get_tensor(name)
        if tensor.dtype != torch.float32:
            raise unfaithful(f"the adapter's {name} is {str(tensor.dtype).removeprefix('torch.')}, not float32")
        if not torch.isfinite(tensor).all():
            raise unfaithful(f"the adapter's {name} has values that are not finite")
        return tensor


def verify_adapter(folder: Path, adapter: AdapterSpec, layers: Sequence[str], *, decomposed: bool) -> None:
    """Fail if an adapter is not the one that the spec asks for, or if training left a part of it as it was.

    Args:
        folder: The adapter in peft's layout.
        adapter: The settings that were asked for.
        layers: Full names of the base model's linear layers.
        decomposed: Whether it is a DoRA adapter.

    Raises:
        StageError: The rank, alpha, kind or layers differ, or an adapter's matrix B is zero.
    """
    config = read_json(folder / "adapter_config.json") or {}
    expected = {"r": adapter.rank, "lora_alpha": adapter.alpha, "use_dora": decomposed}
    for name, value in expected.items():
        if config.get(name) != value:
            raise unfaithful(f"the adapter was saved with {name} {config.get(name)}, the job asks for {value}")
    targets = adapter.target_modules
    wanted = {n for n in layers if targets is None or any(n == t or n.endswith(f".{t}") for t in targets)}
    weights = AdapterWeights(folder)
    missing, extra = sorted(wanted - set(weights.layers)), sorted(set(weights.layers) - wanted)
    if missing or extra:
        problem = f"has none for {len(missing)} of {len(wanted)} layers, the first of them {missing[0]}"
        raise unfaithful(f"the adapter {problem}" if missing else f"the adapter has one for {extra[0]}, unasked")
    still = []
    for layer in weights.layers:
        down, up = weights.get(layer, "lora_A"), weights.get(layer, "lora_B")
        if down.shape[0] != adapter.rank or up.shape[1] != adapter.rank:
            raise unfaithful(f"the adapter of {layer} has rank {down.shape[0]}, the job asks for {adapter.rank}")
        if not up.any():
            still.append(layer)
    if still:
        raise unfaithful(
            f"training did not change the adapter of {len(still)} of {len(wanted)} layers, "
            f"the first of them {still[0]}: its matrix B is still zero",
            "Train for more steps, or with a higher learning rate",
        )


def verify_merge(
    base: Path, final: Path, merged: Path, adapter: AdapterSpec, load: Callable[[], Any], *, decomposed: bool
) -> None:
    """Fail if merged weights are not the base's plus the adapter's.

    For LoRA the merged weight is W + alpha/rank · B·A; for DoRA it is that, each row scaled to its magnitude
    (arXiv 2402.09353). All other tensors must be those of the base. One tensor is in memory at a time.

    Args:
        base: Folder of the base model.
        final: Folder of the adapter.
        merged: Folder of the merged model.
        adapter: The settings that were asked for.
        load: Loads the base model; used if its files name tensors differently than the model does.
        decomposed: Whether it is a DoRA adapter.

    Raises:
        StageError: A tensor is another one, or not float32.
    """
    found, weights, source = WeightFiles(merged), AdapterWeights(final), _base_tensors(base, merged, load)
    adapted = {f"{layer}.weight": layer for layer in weights.layers}
    wrong, unmerged = [], 0
    for name in sorted(found.names()):
        tensor, before = found[name], source[name].float()
        if tensor.dtype != torch.float32:
            raise unfaithful(f"the merged model's {name} is {str(tensor.dtype).removeprefix('torch.')}, not float32")
        if name not in adapted:
            if not torch.equal(tensor, before):
                raise unfaithful(f"merging changed {name}, which has no adapter")
            continue
        expected = _merged(before, weights, adapted[name], adapter.alpha / adapter.rank, decomposed=decomposed)
        bound = _TOLERANCE * max(1.0, float(expected.abs().max()))
        if not float((tensor - expected).abs().max()) <= bound:
            wrong.append(name)
            unmerged += torch.equal(tensor, before)
    if missing := sorted(set(adapted) - found.names()):
        raise unfaithful(f"the merged model has no {missing[0]}")
    if wrong and unmerged == len(wrong) == len(adapted):
        raise unfaithful("the merged model equals the base model: the adapter was not merged")
    if wrong:
        formula = "the base weight plus alpha/rank · B·A" + (", scaled to the trained magnitudes" if decomposed else "")
        raise unfaithful(f"{len(wrong)} of {len(adapted)} merged weights are not {formula}; the first is {wrong[0]}")


def _merged(
    weight: torch.Tensor, adapter: AdapterWeights, layer: str, scaling: float, *, decomposed: bool
) -> torch.Tensor:
    """Return a layer's merged weight, float32 [out, in]."""
    result = weight + scaling * (adapter.get(layer, "lora_B") @ adapter.get(layer, "lora_A"))
    if decomposed:
        magnitude = adapter.get(layer, "lora_magnitude_vector").reshape(-1, 1)
        result *= magnitude / torch.linalg.norm(result, dim=1, keepdim=True)
    return result


def _base_tensors(base: Path, merged: Path, load: Callable[[], Any]) -> Mapping[str, Any] | WeightFiles:
    """Return the base model's tensors under the names that the merged model has."""
    files = WeightFiles(base)
    if WeightFiles(merged).names() <= files.names():
        return files
    # Some checkpoints store tensors under names or in shapes that transformers converts when it loads them.
    return dict(load().state_dict())


def verify_tied(folder: Path) -> None:
    """Fail if the configuration ties the output layer to the embedding, but the weights hold two different ones.

    Raises:
        StageError: They differ; transformers would use one of them, and other runtimes the other.
    """
    config = read_json(folder / "config.json") or {}
    files = WeightFiles(folder)
    if not config.get("tie_word_embeddings") or "lm_head.weight" not in files.names():
        return
    embedding = next((name for name in files.names() if name.endswith("embed_tokens.weight")), None)
    if embedding is not None and not torch.equal(files["lm_head.weight"], files[embedding]):
        raise unfaithful(f"tie_word_embeddings is set, but lm_head.weight is not {embedding}")
