"""Checks a trained adapter against its spec, and merged weights against the formula, apart from peft's own code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from tunesmith_api.spec import AdapterSpec
from tunesmith_trainer.methods.adapter import AdapterWeights, unfaithful
from tunesmith_trainer.models.weights import WeightFiles
from tunesmith_trainer.storage.files import read_json

# Merging in fp32 rounds to about 1e-7 of a weight; a wrong alpha or rank is off by percents.
_TOLERANCE = 1e-5
# Of values that lie between two of a smaller number format, so many may be rounded to the other one.
_TIES = 1e-3


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
    weights = AdapterWeights(folder)
    config = weights.config
    expected = {"r": adapter.rank, "lora_alpha": adapter.alpha, "use_dora": decomposed}
    for name, value in expected.items():
        if config.get(name) != value:
            found = _short(config.get(name))
            raise unfaithful(f"the adapter was saved with {name} {found}, the job asks for {_short(value)}")
    targets = adapter.target_modules
    wanted = {n for n in layers if targets is None or any(n == t or n.endswith(f".{t}") for t in targets)}
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


def _short(value: object) -> str:
    return format(value, "g") if isinstance(value, float) else str(value)


def verify_merge(
    base: Path, final: Path, merged: Path, adapter: AdapterSpec, names: Mapping[str, str], *, decomposed: bool
) -> None:
    """Fail if merged weights are not the base's plus the adapter's.

    For LoRA the merged weight is W + alpha/rank · B·A; for DoRA it is that, each row scaled to its magnitude
    (arXiv 2402.09353). It is rounded to the number format of W. All other tensors must be those of the base. One tensor
    is in memory at a time.

    Args:
        base: Folder of the base model.
        final: Folder of the adapter.
        merged: Folder of the merged model.
        adapter: The settings that were asked for.
        names: The name of each tensor of the merged model, and the name that it has in the base model's files.
        decomposed: Whether it is a DoRA adapter.

    Raises:
        StageError: A tensor is another one, or of another number format than the base's.
    """
    found, source, weights = WeightFiles(merged), WeightFiles(base), AdapterWeights(final)
    adapted = {f"{layer}.weight": layer for layer in weights.layers}
    if missing := sorted(({*names} | {*adapted}) - found.names()):
        raise unfaithful(f"the merged model has no {missing[0]}")
    wrong, unmerged = [], 0
    for name in sorted(found.names()):
        tensor, before = found[name], source[names.get(name, name)]
        if tensor.dtype != before.dtype and not (tensor.dtype == torch.float32 and before.dtype.itemsize in (1, 8)):
            raise unfaithful(f"the merged model's {name} is {_name(tensor)}, not {_name(before)} as the base model's")
        if name not in adapted:
            if not torch.equal(tensor, before.to(tensor.dtype)):
                raise unfaithful(f"merging changed {name}, which has no adapter")
            continue
        expected = _merged(before.float(), weights, adapted[name], adapter.alpha / adapter.rank, decomposed=decomposed)
        if not _is_rounded(tensor, expected):
            wrong.append(name)
            unmerged += torch.equal(tensor, before.to(tensor.dtype))
    if wrong and unmerged == len(wrong) == len(adapted):
        raise unfaithful("the merged model equals the base model: the adapter was not merged")
    if wrong:
        formula = "the base weight plus alpha/rank · B·A" + (", scaled to the trained magnitudes" if decomposed else "")
        raise unfaithful(f"{len(wrong)} of {len(adapted)} merged weights are not {formula}; the first is {wrong[0]}")


def _is_rounded(tensor: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return whether a stored tensor is the expected one, float32, rounded to its number format."""
    differs = tensor != expected.to(tensor.dtype)
    if not differs.any():
        return True
    bound = _TOLERANCE * max(1.0, float(expected.abs().max()))
    if tensor.dtype == torch.float32:
        return float((tensor - expected).abs().max()) <= bound
    found, wanted = tensor[differs].float(), expected[differs]
    unit = torch.finfo(tensor.dtype).eps / 2
    near = bool(((found - wanted).abs() <= wanted.abs() * unit + bound).all())
    return near and len(found) <= _TIES * tensor.numel()


def _name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _merged(
    weight: torch.Tensor, adapter: AdapterWeights, layer: str, scaling: float, *, decomposed: bool
) -> torch.Tensor:
    """Return a layer's merged weight, float32 [out, in]."""
    result = weight + scaling * (adapter.get(layer, "lora_B") @ adapter.get(layer, "lora_A"))
    if decomposed:
        magnitude = adapter.get(layer, "lora_magnitude_vector").reshape(-1, 1)
        result *= magnitude / torch.linalg.norm(result, dim=1, keepdim=True)
    return result


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
