"""Corrects the builder where it does not compute the same as transformers.

The builder loses the sliding window of models whose configuration names no layer types, knows only some rotary position
embeddings, rounds Gemma's scale of embeddings, and reads Gemma's activation from another field. So it gets a
configuration that names the layer types and has plain position embeddings. In the exported graph, the position
embeddings and the scale are then replaced by those that transformers computes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_trainer.models.context import served_positions

Cache = npt.NDArray[np.float32]

_CACHES = ("cos_cache", "sin_cache")
_SCALED_EMBEDDING = "/model/embed_tokens/Mul"


@dataclass(frozen=True)
class Corrections:
    """Values that the exported graph must have.

    Attributes:
        cosines: float32 [positions, rotary dimensions / 2].
        sines: The same shape.
        embedding_scale: Factor of the token embeddings; None for models without one.
    """

    cosines: Cache
    sines: Cache
    embedding_scale: float | None


def stage_model(model: Path, folder: Path) -> Corrections:
    """Fill a folder with links to a model's files and the configuration for the builder.

    Args:
        model: A model in the transformers layout.
        folder: An empty folder.

    Returns:
        The values that the exported graph must have.
    """
    from transformers import AutoConfig

    for path in model.iterdir():
        if path.is_file() and path.name != "config.json":
            (folder / path.name).symlink_to(path.resolve())
    config = AutoConfig.from_pretrained(model, local_files_only=True)
    positions = served_positions(config.to_dict()) or 0
    (folder / "config.json").write_text(json.dumps(_builder_config(config, positions)), encoding="utf-8")
    cosines, sines = rope_caches(config, positions)
    is_scaled = config.model_type in ("gemma", "gemma2")
    return Corrections(cosines, sines, float(config.hidden_size**0.5) if is_scaled else None)


def rope_caches(config: Any, positions: int) -> tuple[Cache, Cache]:  # noqa: ANN401 - a transformers configuration
    """Return the cosines and sines of the model's own rotary embedding in transformers, for each position."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    rotary = type(model.get_decoder().rotary_emb)(config)
    with torch.inference_mode():
        both = rotary(torch.zeros(1, 1, dtype=torch.float32), torch.arange(positions)[None])
    cosines, sines = (values[0, :, : values.shape[-1] // 2].contiguous().numpy() for values in both)
    return cosines, sines


def _builder_config(config: Any, positions: int) -> dict[str, Any]:  # noqa: ANN401
    """Return the configuration for the builder, as JSON."""
    # Fields that transformers does not know do nothing there, but might in the builder. All families know head_dim.
    known = {field.name for field in fields(config)} | {"model_type", "head_dim"}
    values = {name: value for name, value in config.to_dict().items() if name in known}
    rope = config.rope_parameters
    values["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": rope["rope_theta"],
        "partial_rotary_factor": rope.get("partial_rotary_factor", 1.0),
    }
    values["max_position_embeddings"] = positions
    if "original_max_position_embeddings" in values:
        values["original_max_position_embeddings"] = positions
    if values.get("sliding_window") is not None and "layer_types" not in values:
        values["layer_types"] = ["sliding_attention"] * config.num_hidden_layers
    if config.model_type == "gemma":
        values["hidden_activation"] = config.hidden_act
    return values


def correct(folder: Path, corrections: Corrections) -> None:
    """Write the right values into an export, in place.

    Args:
        folder: An export.
        corrections: The values.

    Raises:
        ValueError: The graph is not as the builder writes it.
    """
    import onnx
    from onnx import numpy_helper

    path = folder / "model.onnx"
    model = onnx.load(str(path), load_external_data=False)
    weights = {weight.name: weight for weight in model.graph.initializer}
    for name, values in zip(_CACHES, (corrections.cosines, corrections.sines), strict=True):
        shape = tuple(weights[name].dims) if name in weights else None
        if shape != values.shape:
            raise ValueError(f"the exported graph has {name} of shape {shape}; {values.shape} is expected")
        _overwrite(folder, weights[name], values)
    if corrections.embedding_scale is not None:
        scaled = [node for node in model.graph.node if node.name == _SCALED_EMBEDDING]
        if not scaled:
            raise ValueError(f"the exported graph has no node {_SCALED_EMBEDDING}")
        name = f"{_SCALED_EMBEDDING}/scale"
        scaled[0].input[1] = name
        scale = np.asarray(corrections.embedding_scale, _dtype(weights[_CACHES[0]]))
        model.graph.initializer.append(numpy_helper.from_array(scale, name))
    onnx.save(model, str(path))


def _dtype(weight: Any) -> Any:  # noqa: ANN401 - an onnx TensorProto
    """Return the type of a weight, as numpy names it."""
    from onnx import helper

    return helper.tensor_dtype_to_np_dtype(weight.data_type)


def _overwrite(folder: Path, weight: Any, values: npt.NDArray[Any]) -> None:  # noqa: ANN401 - an onnx TensorProto
    """Replace the values of a weight, in the file that holds them."""
    from onnx import external_data_helper, numpy_helper

    values = values.astype(_dtype(weight))
    if not external_data_helper.uses_external_data(weight):
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        return
    place = {entry.key: entry.value for entry in weight.external_data}
    if int(place["length"]) != values.nbytes:
        raise ValueError(f"the exported graph has {weight.name} in {place['length']} bytes; {values.nbytes} expected")
    with (folder / place["location"]).open("r+b") as file:
        file.seek(int(place.get("offset", 0)))
        file.write(values.tobytes())
