"""Lets a base model know the languages of a job, where it marks texts with them."""

from __future__ import annotations

import shutil
from pathlib import Path

from tunesmith_trainer.data.targets import Facts
from tunesmith_trainer.models.layout import local_files
from tunesmith_trainer.models.tokenizer import load_tokenizer
from tunesmith_trainer.storage.files import link_tree, read_json, write_json
from tunesmith_trainer.tasks.translation.languages import first_tokens, marks_languages, use_languages

_GENERATION = "generation_config.json"


def with_languages(folder: Path, target: Path, facts: Facts) -> Path:
    """Return the folder of a model whose tokenizer and answers have the languages of a job.

    A model that does not mark texts with languages is left as it is. Of another one `target` is written: its files,
    with the language of sources in its tokenizer, and in generation_config.json that of answers.

    Args:
        folder: The base model.
        target: The folder to write.
        facts: The languages.
    """
    tokenizer = load_tokenizer(folder)
    if not marks_languages(tokenizer):
        return folder
    use_languages(tokenizer, facts)
    tokenizer.init_kwargs |= {"src_lang": facts["sourceLanguage"], "tgt_lang": facts["targetLanguage"]}
    partial = target.with_name(f".{target.name}.partial")
    for old in (partial, target):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    tokenizer.save_pretrained(partial)
    for name in local_files(folder):
        if name != _GENERATION and not (partial / name).exists():
            link_tree((folder / name).resolve(), partial / name)
    write_json(partial / _GENERATION, {**(read_json(folder / _GENERATION) or {}), **first_tokens(tokenizer, facts)})
    partial.replace(target)
    return target
