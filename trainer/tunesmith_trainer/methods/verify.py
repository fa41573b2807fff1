"""Checks a trained adapter against its spec, and merged weights against the formula, apart from peft's own code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from tunesmith_api.spec import AdapterSettings
from tunesmith_trainer.methods.adapter import AdapterWeights
from tunesmith_trainer.methods.adapter_file import unfaithful
from tunesmith_trainer.methods.kinds.base import AdapterKind
from tunesmith_trainer.methods.targets import targeted
from tunesmith_trainer.models.weights import WeightFiles
from tunesmith_trainer.storage.files import read_json

# Merging in fp32 rounds to about 1e-7 of a weight; a wrong alpha or rank is off by percents.
_TOLERANCE = 1e-5
# Of values that lie between two of a smaller number format, so many may be rounded to the other one.
_TIES = 1e-3


def verify_adapter(
    folder: Path, kind: AdapterKind, adapter: AdapterSettings, layers: Sequence[str], heads: Sequence[str] = ()
) -> None:
    """Fail if an adapter is not the one that the spec asks for, or if training left one of a layer as it was.

    Args:
        folder: The adapter in peft's layout.
        kind: The kind that was asked for.
        adapter: The settings that were asked for.
        layers: Full names of the base model's linear layers that can have one.
        heads: Names of the base model's tensors that are trained whole beside it.

    Raises:
        StageError: The kind, settings or layers differ, or the adapter of a layer did not move.
    """
    weights = AdapterWeights(folder)
    for name, value in {"peft_type": kind.peft_type, **kind.saved_settings(adapter)}.items():
        found = weights.config.get(name)
        if found != value:
            raise unfaithful(f"the adapter was saved with {name} {_short(found)}, the job asks for {_short(value)}")
    wanted = set(targeted(layers, adapter.target_modules))
    missing, extra = sorted(wanted - set(weights.layers)), sorted(set(weights.layers) - wanted)
    if missing or extra:
        problem = f"has none for {len(missing)} of {len(wanted)} layers, the first of them {missing[0]}"
        raise unfaithful(f"the adapter {problem}" if missing else f"the adapter has one for {extra[0]}, unasked")
    if other := sorted({*heads} ^ {*weights.heads}):
        raise unfaithful(f"the adapter has {'no' if other[0] in heads else 'an unasked'} trained {other[0]}")
    still: dict[str, str] = {}
    for layer in weights.layers:
        if wrong := kind.problem(weights, layer, adapter):
            raise unfaithful(f"the adapter of {layer} {wrong}")
        if unmoved := kind.unmoved(weights, layer, adapter):
            still[layer] = unmoved
    if still:
        first = next(iter(still))
        raise unfaithful(
            f"training did not change the adapter of {len(still)} of {len(wanted)} layers, "
            f"the first of them {first}: {still[first]}",
            "Train for more steps, or with a higher learning rate",
        )


def _short(value: object) -> str:
    return format(value, "g") if isinstance(value, float) else str(value)


def verify_merge(base: Path, final: Path, merged: Path, adapter: AdapterSettings, names: Mapping[str, str]) -> None:
    """Fail if merged weights are not those that the formula of the adapter's kind makes of the base's.

    They are rounded to the number format of the base's. What was trained whole must be the adapter's, and all other
    tensors those of the base. One tensor is in memory at a time.

    Args:
        base: Folder of the base model.
        final: Folder of the adapter.
        merged: Folder of the merged model.
        adapter: The settings that were asked for.
        names: The name of each tensor of the merged model, and the name that it has in the base model's files.

    Raises:
        StageError: A tensor is another one, or of another number format than the base's.
    """
    found, source, weights = WeightFiles(merged), WeightFiles(base), AdapterWeights(final)
    needed = {*names, *weights.heads} | {name for name in weights.tensors if name.endswith(".weight")}
    if missing := sorted(needed - found.names()):
        raise unfaithful(f"the merged model has no {missing[0]}")
    adapted, wrong, unmerged, trained = 0, [], 0, set(weights.heads)
    for name in sorted(found.names()):
        tensor, before = found[name], source[names.get(name, name)]
        if tensor.dtype != before.dtype and not (tensor.dtype == torch.float32 and before.dtype.itemsize in (1, 8)):
            raise unfaithful(f"the merged model's {name} is {_name(tensor)}, not {_name(before)} as the base model's")
        if name in trained:
            if not torch.equal(tensor, weights.head(name).to(tensor.dtype)):
                raise unfaithful(f"the merged model's {name} is not the one that was trained")
            continue
        if name not in weights.tensors:
            if not torch.equal(tensor, before.to(tensor.dtype)):
                raise unfaithful(f"merging changed {name}, which has no adapter")
            continue
        adapted += 1
        if not _is_rounded(tensor, _expected(weights, name, before.float(), adapter)):
            wrong.append(name)
            unmerged += torch.equal(tensor, before.to(tensor.dtype))
    if wrong and unmerged == len(wrong) == adapted:
        raise unfaithful("the merged model equals the base model: the adapter was not merged")
    if wrong:
        formula = weights.kind.formula
        raise unfaithful(f"{len(wrong)} of {adapted} merged weights are not {formula}; the first is {wrong[0]}")


def _expected(weights: AdapterWeights, name: str, before: torch.Tensor, adapter: AdapterSettings) -> torch.Tensor:
    """Return a weight or a bias, merged by the formula of the paper, float32."""
    layer = weights.tensors[name]
    if name.endswith(".bias"):
        return weights.kind.expected_bias(weights, layer, before)
    return weights.kind.expected(weights, layer, before, adapter)


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
