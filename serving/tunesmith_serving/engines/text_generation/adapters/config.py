"""peft's adapter_config.json: how strong each module's adapter is, and what is not a LoRA that stays low-rank."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunesmith_serving.engines.text_generation.adapters.errors import AdapterError

MERGE = "merge it into the base instead (export: {adapterOnly: false}) and serve that model"

# Settings that add something besides A and B, with what they are called.
_MORE = {
    "use_dora": "DoRA scales the columns of the merged weight",
    "use_qalora": "QALoRA pools the inputs of a layer",
    "use_bdlora": "BD-LoRA has matrices in blocks",
    "lora_bias": "the adapter has biases (lora_bias)",
    "modules_to_save": "whole modules were trained besides (modules_to_save)",
    "trainable_token_indices": "embeddings were trained besides (trainable_token_indices)",
    "target_parameters": "parameters outside linear layers were trained (target_parameters)",
    "layer_replication": "layers are repeated (layer_replication)",
    "alora_invocation_tokens": "the adapter begins at certain tokens only (alora_invocation_tokens)",
    "arrow_config": "several adapters are routed (arrow_config)",
    "kasa_config": "KaSA has singular values besides A and B",
    "monteclora_config": "MonteCLoRA draws its matrices at random",
}
# Ways to begin that change the base's weights: the adapter fits only that changed base.
_CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class LoraConfig:
    """The strength of an adapter.

    Attributes:
        rank: Rank where no pattern says another.
        alpha: Numerator of the scale, likewise.
        root: Whether the scale is divided by the root of the rank (rsLoRA) rather than by the rank.
        ranks: Ranks of modules by regular expressions of the ends of their paths.
        alphas: Alphas, likewise.
    """

    rank: int
    alpha: float
    root: bool = False
    ranks: Mapping[str, int] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)

    def rank_of(self, path: str) -> int:
        """Return the rank of a module, such as `model.layers.0.self_attn.q_proj`."""
        return _matched(self.ranks, path, self.rank)

    def scale_of(self, path: str) -> float:
        """Return what a module's product of A and B is multiplied by."""
        rank = self.rank_of(path)
        return _matched(self.alphas, path, self.alpha) / (math.sqrt(rank) if self.root else rank)


def read_lora_config(config: Mapping[str, Any]) -> LoraConfig:
    """Return the strength that an adapter_config.json gives.

    Raises:
        AdapterError: It is not LoRA or rsLoRA, or something was trained besides; the message names it.
    """
    kind = str(config.get("peft_type") or "")
    if kind.upper() != "LORA":
        raise AdapterError(f"it is an adapter of the kind {kind or 'unknown'}; LoRA and rsLoRA are served: {MERGE}")
    for name, what in _MORE.items():
        if config.get(name):
            raise AdapterError(f"{what}, so that it does not stay low-rank beside the base; {MERGE}")
    if config.get("bias", "none") != "none":
        raise AdapterError(f"biases of the base were trained besides (bias: {config['bias']}); {MERGE}")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGED_BASE):
        raise AdapterError(
            f"it began with init_lora_weights: {start}, which changes the base's weights; save it for the base as it "
            f"is (peft: save_pretrained(path_initial_model_for_weight_conversion=...)), or {MERGE}"
        )
    try:
        found = LoraConfig(
            rank=int(config["r"]),
            alpha=float(config["lora_alpha"]),
            root=bool(config.get("use_rslora")),
            ranks={str(key): int(value) for key, value in (config.get("rank_pattern") or {}).items()},
            alphas={str(key): float(value) for key, value in (config.get("alpha_pattern") or {}).items()},
        )
        for pattern in (*found.ranks, *found.alphas):
            re.compile(pattern)
    except (KeyError, TypeError, ValueError, AttributeError, re.error) as error:
        raise AdapterError(f"adapter_config.json lacks a usable {error}; export the adapter again") from None
    if min((found.rank, *found.ranks.values())) < 1:
        raise AdapterError("adapter_config.json has a rank below 1; export the adapter again")
    return found


def _matched(patterns: Mapping[str, Any], path: str, default: Any) -> Any:  # noqa: ANN401 - a number
    """Return the value of the first pattern that a module's path ends with, as peft chooses it."""
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", path)), default)
