"""Gives a model the one chat template that its job trains with: training, evaluation and the server render it alike.

A tokenizer can have several templates by name, of which transformers takes `tool_use` for conversations with tools;
they become one template. One that takes no system turns can fold them into the first user turn.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.data.chat_templates import with_folded_system_turn, with_tool_template
from tunesmith_trainer.models.base import BaseModel
from tunesmith_trainer.models.checks import invalid
from tunesmith_trainer.models.layout import NAMED_TEMPLATES, link_files
from tunesmith_trainer.models.tokenizer import load_tokenizer
from tunesmith_trainer.storage.files import write_atomic

_TEMPLATE = "chat_template.jinja"


def settled_template(tokenizer: Any, name: str, *, fold: bool) -> str:  # noqa: ANN401 - transformers has no types
    """Return the template that a job trains with.

    Args:
        tokenizer: A tokenizer (transformers) with a chat template, or several.
        name: The model's name in messages.
        fold: Whether system turns become the beginning of the first user turn.

    Raises:
        StageError: INVALID_MODEL; there are several templates, and none is the default.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        default, tool_use = template.get("default"), template.get("tool_use")
        if default is None:
            raise invalid(
                name,
                f"its chat templates are called {', '.join(sorted(template))}, and none is the default",
                f"Write the one to train with into {_TEMPLATE}",
            )
        template = default if tool_use is None else with_tool_template(default, tool_use)
    return with_folded_system_turn(template) if fold else str(template)


def settle_template(model: BaseModel, work: WorkFolder, *, fold: bool) -> BaseModel:
    """Return the model with the template that its job trains with, in the prepare stage's folder if it was changed.

    A folder outside the work folder is never changed: the prepared model is then a folder of links to its files.

    Args:
        model: The base model; its tokenizer has a chat template, or several.
        work: The job's work folder.
        fold: Whether system turns become the beginning of the first user turn.

    Raises:
        StageError: INVALID_MODEL; there are several templates, and none is the default.
    """
    template = settled_template(model.tokenizer, model.uri, fold=fold)
    if template == model.tokenizer.chat_template:
        return model
    folder = model.path
    if not folder.is_relative_to(work.stage(Stage.PREPARE)):
        folder = work.prepared_model
        _link(model.path, folder, template)
    else:
        write_atomic(folder / _TEMPLATE, template.encode())
        shutil.rmtree(folder / NAMED_TEMPLATES, ignore_errors=True)
    return replace(model, path=folder, tokenizer=load_tokenizer(folder, model.uri))


def _link(source: Path, target: Path, template: str) -> None:
    """Create a folder of links to a model's files, with another chat template."""
    partial = target.with_name(f".{target.name}.partial")
    for folder in (partial, target):
        shutil.rmtree(folder, ignore_errors=True)
    partial.mkdir(parents=True)
    link_files(source, partial, but=_TEMPLATE)
    (partial / _TEMPLATE).write_text(template)
    partial.replace(target)
