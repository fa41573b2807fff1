"""`python -m tunesmith_trainer.train.evaluation --work FOLDER`: evaluates the base model and the tuned one on a GPU.

The train stage runs it in a process of its own when training has ended, with the trained weights from their files: the
GPU's memory is free by then, and whatever happens here does not touch what was trained.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith_api.failures import StageError
from tunesmith_api.local.imports import importing
from tunesmith_api.local.processes import die_with_parent
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.evaluate.validation import (
    AS_TRAINED,
    EXAMPLES,
    TITLES,
    evaluated_rows,
    evaluation_file,
    evaluation_inputs,
    evaluation_rows,
    trained_evaluation_file,
)
from tunesmith_trainer.methods.registry import method_of
from tunesmith_trainer.models.location import model_path
from tunesmith_trainer.models.tokenizer import load_tokenizer
from tunesmith_trainer.runtime.job_config import load_config
from tunesmith_trainer.runtime.steps import StepProgress
from tunesmith_trainer.storage.files import read_json, write_json
from tunesmith_trainer.tasks.base import ValidationSet
from tunesmith_trainer.tasks.registry import task_for

log = logging.getLogger(__name__)

_DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
_ROOM = 1.3  # memory of a model under evaluation, in times of its weights
_SPARE = 2 << 30  # bytes on the GPU beside it


def evaluate_trained(config: JobConfig, work: WorkFolder, trained: dict[str, Any]) -> None:
    """Evaluate both models and write the results for publish. A model that is evaluated already is left out.

    Args:
        config: The job.
        work: The work folder.
        trained: What training has returned: `final` and `precision`.
    """
    path = trained_evaluation_file(work)
    inputs = evaluation_inputs(config, work, trained["final"])
    results: dict[str, Any] = read_json(path) or {}
    if results.get("inputs") != inputs:
        results = {"inputs": inputs}
    base, task = model_path(work), task_for(config.spec)
    progress = StepProgress(work, Stage.TRAIN, log)
    store = evaluation_rows(work)
    prompts = task.read_prompts(evaluation_file(work), config.spec.evaluation.max_rows)
    data = ValidationSet(store, prompts, load_tokenizer(base))
    rows = evaluated_rows(config, store)
    models = {"before": lambda: _load(config, base, trained), "after": lambda: _tuned(config, work, base, trained)}
    if method_of(config.spec.method).info.is_quantized:
        as_trained = {AS_TRAINED: lambda: _as_trained(config, work, base, trained)}
        # First, as the others may not fit into the memory of this GPU; but last if it is compared with the base model.
        models = {**models, **as_trained} if task.compares_with_start else {**as_trained, **models}
    for when, load in models.items():
        if when in results:
            continue
        with (
            _on_device(load) as model,
            _compute_type(model, trained["precision"]),
            progress.track(TITLES[when], rows + len(data.prompts)) as advance,
        ):
            known = replace(data, before=(results.get("before") or {}).get("reference"))
            asked = replace(known, prompts=()) if when == AS_TRAINED else known
            found = task.evaluate(model, asked, config.spec, rows=rows, examples=EXAMPLES, advance=advance)
            results[when] = {**found, "computedOn": model.device.type}
        write_json(path, results)


def _load(config: JobConfig, folder: Path, trained: dict[str, Any]) -> Any:  # noqa: ANN401 - a transformers model
    """Return the model in a folder, on the CPU, in the number format that training computes in."""
    return task_for(config.spec).load_base(folder, _DTYPES[trained["precision"]])


def _as_trained(config: JobConfig, work: WorkFolder, base: Path, trained: dict[str, Any]) -> Any:  # noqa: ANN401
    """Return the tuned model with its base weights quantized, on the CPU."""
    load = task_for(config.spec).load_quantized
    return method_of(config.spec.method).as_trained(work.final, base, load, _DTYPES[trained["precision"]])


def _tuned(config: JobConfig, work: WorkFolder, base: Path, trained: dict[str, Any]) -> Any:  # noqa: ANN401
    """Return the tuned model, on the CPU: an adapter stays beside its base, which is dequantized."""
    info, task = method_of(config.spec.method).info, task_for(config.spec)
    if not info.trains_adapter:
        return _load(config, work.final, trained)
    from peft import PeftModel

    if info.is_quantized:
        from tunesmith_trainer.models.nf4 import dequantize_layers

        model = task.load_quantized(base, _DTYPES[trained["precision"]])
        dequantize_layers(model)
        return PeftModel.from_pretrained(model, work.final, is_trainable=False)
    return PeftModel.from_pretrained(_load(config, base, trained), work.final, is_trainable=False)


@contextmanager
def _on_device(load: Callable[[], Any]) -> Iterator[Any]:
    """Yield a model on the GPU, if there is one, and free its memory afterwards.

    Raises:
        MemoryError: It does not fit.
    """
    import torch

    from tunesmith_trainer.models.loading import device

    model = load().eval()
    if torch.cuda.is_available():
        size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
        free, _ = torch.cuda.mem_get_info()
        if size * _ROOM + _SPARE > free:
            raise MemoryError(f"the model takes {size / 1e9:.1f} GB and {free / 1e9:.1f} GB of the GPU are free")
    yield model.to(device())
    del model
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _compute_type(model: Any, precision: str) -> Any:  # noqa: ANN401 - torch has no type for it
    """Return a context in which a model computes as in training, where adapters are in fp32."""
    import torch

    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def main() -> int:
    """Evaluate the models of a job whose training has ended, and return the exit code: 1 if that is not possible."""
    parser = argparse.ArgumentParser(prog="tunesmith_trainer.train.evaluation", description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True, help="process ID of the stage")
    options = parser.parse_args()
    die_with_parent(options.parent)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    work = WorkFolder(options.work)
    try:
        with importing():
            from tunesmith_trainer.train.trained import read_trained

            config = load_config(work)
            evaluate_trained(config, work, read_trained(work) or {})
    except Exception as error:  # whatever it is, publish can still evaluate them
        cause = str(error) if isinstance(error, StageError | MemoryError) else f"{type(error).__name__}: {error}"
        log.warning("the models are not evaluated on this GPU, but in publish: %s", " ".join(cause.split())[:500])
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)
