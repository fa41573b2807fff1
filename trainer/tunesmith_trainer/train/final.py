"""The trained weights as the publish stage reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.train.trainer import FineTuner

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
)


def save_final(trainer: FineTuner, work: WorkFolder, base: Path, *, adapter: bool) -> None:
    """Write `final/`: the adapter, or the whole model with its tokenizer. All processes of the run take part.

    Args:
        trainer: The trainer, at the end of training.
        work: The work folder.
        base: Folder of the base model.
        adapter: Whether an adapter was trained.
    """
    weights = _weights(trainer, adapter=adapter)
    if trainer.args.process_index == 0:
        temporary = work.final.with_name(".final.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        model = trainer.model
        if adapter:
            model.peft_config["default"].base_model_name_or_path = str(base)
            model.save_pretrained(temporary, state_dict=weights, save_embedding_layers=False)
            (temporary / "README.md").unlink(missing_ok=True)
            _sort_targets(temporary / "adapter_config.json")
        else:
            model.config.use_cache = True  # training turns it off
            model.save_pretrained(temporary, state_dict=weights)
            for name in _TOKENIZER_FILES:
                if (base / name).is_file():
                    shutil.copy2(base / name, temporary / name)
        shutil.rmtree(work.final, ignore_errors=True)
        temporary.rename(work.final)
    trainer.barrier()


def _weights(trainer: FineTuner, *, adapter: bool) -> dict[str, Any] | None:
    """Return the weights by name, gathered from all processes; None where the model itself holds them."""
    if not trainer.is_deepspeed_enabled:
        return None
    if trainer.resolved.zero_stage == 3:
        gathered = trainer.deepspeed._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=adapter)
        return dict(gathered or {})
    learned = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    # Cloned, as DeepSpeed keeps parameters as views of one buffer.
    state = trainer.model.state_dict()
    return {name: value.detach().clone() for name, value in state.items() if not adapter or name in learned}


def _sort_targets(path: Path) -> None:
    """Sort the names of the layers, which peft writes in an order that differs between runs."""
    settings = json.loads(path.read_text())
    if isinstance(settings.get("target_modules"), list):
        settings["target_modules"].sort()
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
