"""The kinds of adapters, and which of them a file is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith_trainer.methods.adapter_file import unfaithful
from tunesmith_trainer.methods.kinds.base import AdapterKind
from tunesmith_trainer.methods.kinds.ia3 import Ia3Kind
from tunesmith_trainer.methods.kinds.loha import LohaKind
from tunesmith_trainer.methods.kinds.lora import DoraKind, LoraKind
from tunesmith_trainer.methods.kinds.oft import OftKind
from tunesmith_trainer.methods.kinds.vera import VeraKind

KINDS: dict[str, AdapterKind] = {
    "lora": LoraKind(),
    "dora": DoraKind(),
    "ia3": Ia3Kind(),
    "vera": VeraKind(),
    "oft": OftKind(),
    "loha": LohaKind(),
}
"""All kinds by name; an adapter_config.json describes one of them."""


def kind_of(config: Mapping[str, Any]) -> AdapterKind:
    """Return the kind that an adapter_config.json describes.

    Raises:
        StageError: PARITY_FAILED: it describes none.
    """
    for kind in KINDS.values():
        if kind.is_kind_of(config):
            return kind
    raise unfaithful(f"adapter_config.json describes an adapter of no known kind: peft_type {config.get('peft_type')}")
