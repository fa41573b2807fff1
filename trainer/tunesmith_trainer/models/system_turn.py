"""Gives a model without system turns a chat template that folds them into the first user turn."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.data.chat_templates import with_folded_system_turn
from tunesmith_trainer.models.base import BaseModel
from tunesmith_trainer.models.layout import wanted_files
from tunesmith_trainer.models.tokenizer import load_tokenizer
from tunesmith_trainer.storage.files import write_atomic

_TEMPLATE = "chat_template.jinja"


def fold_system_turn(model: BaseModel, work: WorkFolder) -> BaseModel:
    """Return the model with the changed chat template, in the prepare stage's folder.

    A folder outside the work folder is never changed: the prepared model is then a folder of links to its files.

    Args:
        model: The base model; its tokenizer has a chat template.
        work: The job's work folder.
    """
    template = with_folded_system_turn(model.tokenizer.get_chat_template())
    folder = model.path
    if not folder.is_relative_to(work.stage(Stage.PREPARE)):
        folder = work.prepared_model
        _link(model.path, folder, template)
    else:
        write_atomic(folder / _TEMPLATE, template.encode())
    return replace(model, path=folder, tokenizer=load_tokenizer(folder, model.uri))


def _link(source: Path, target: Path, template: str) -> None:
    """Create a folder of links to a model's files, with another chat template."""
    partial = target.with_name(f".{target.name}.partial")
    for folder in (partial, target):
        shutil.rmtree(folder, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in wanted_files(str(source), [path.name for path in source.iterdir() if path.is_file()]):
        if name != _TEMPLATE:
            (partial / name).symlink_to(source.resolve() / name)
    (partial / _TEMPLATE).write_text(template)
    partial.replace(target)
