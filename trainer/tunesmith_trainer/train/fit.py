"""One process of a training run, from the prepared data to the final weights."""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.trainer_pt_utils import get_model_param_count

from tunesmith_api.artifact import digest_of_json
from tunesmith_api.contract import DISABLE_TRANSFORMERS_REPORT
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.resolve import Resolved, resolve
from tunesmith_api.spec import PUBLISH_FIELDS, JobConfig
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.data.collate import OrderedDataset
from tunesmith_trainer.data.packing import PackedDataset
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.methods.registry import method_of
from tunesmith_trainer.models.fingerprint import require_same_base
from tunesmith_trainer.models.location import model_path
from tunesmith_trainer.models.memory import freed_at_once
from tunesmith_trainer.storage.files import digest_of_tree, read_json, write_json
from tunesmith_trainer.tasks.base import Task
from tunesmith_trainer.tasks.registry import task_for
from tunesmith_trainer.train.adjusted import read_adjusted
from tunesmith_trainer.train.arguments import training_arguments
from tunesmith_trainer.train.batch_rows import BatchRows
from tunesmith_trainer.train.checkpointing.best import BestWeights
from tunesmith_trainer.train.checkpointing.checkpoints import checkpoint_facts, newest_usable
from tunesmith_trainer.train.checkpointing.epochs import EpochWeights
from tunesmith_trainer.train.checkpointing.outbox import outbox_of
from tunesmith_trainer.train.checkpointing.shards import agree_on_batch, agree_on_checkpoint, shard_of_this_process
from tunesmith_trainer.train.compat.accelerate import hide_datasets, hide_deepspeed
from tunesmith_trainer.train.compat.deepspeed import whole
from tunesmith_trainer.train.compile import compile_layers
from tunesmith_trainer.train.distributed.interrupt import Interrupt
from tunesmith_trainer.train.distributed.zero import join_deepspeed, remove_offloaded
from tunesmith_trainer.train.failures import translate_oom
from tunesmith_trainer.train.final import save_final, save_weights
from tunesmith_trainer.train.gpu_settings import use_gpu_settings
from tunesmith_trainer.train.moved import fingerprints
from tunesmith_trainer.train.peaks import peaks_of_all
from tunesmith_trainer.train.planned import planned
from tunesmith_trainer.train.progress import Progress
from tunesmith_trainer.train.reference import provide_reference
from tunesmith_trainer.train.result import result_of, write_metrics
from tunesmith_trainer.train.sampler import training_order
from tunesmith_trainer.train.trainer import FineTuner
from tunesmith_trainer.train.validation_loss import ValidationLoss

log = logging.getLogger(__name__)

_EVAL_ROWS = 64  # validation rows of an evaluation during training; publish evaluates on more


def fit(config: JobConfig, work: WorkFolder, interrupt: Interrupt) -> dict[str, Any]:
    """Train from the newest whole checkpoint if there is one, and write the final weights.

    Every process of the run calls it. If there are several, torchrun's variables are set.

    Returns:
        The fields of the stage's marker. They are the same in every run of the job on the same machine.

    Raises:
        StageError: The job cannot be trained, or was interrupted.
    """
    started = time.monotonic()
    spec = config.spec
    data = work.stage(Stage.PREPARE) / "data"
    rows, validation = TokenStore.open(data / "train"), TokenStore.open(data / "validation")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    use_gpu_settings()
    _check_gpus()
    _require_validation(config, validation)
    has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    base, task = model_path(work), task_for(spec)
    lengths = task.row_lengths(rows)
    facts = task.packing_facts(base, int(lengths.max()))
    resolved = resolve(spec, world, len(rows), has_bf16, planned(work), facts)
    adjusted = read_adjusted(work)
    if adjusted is not None:
        resolved = adjusted.applied(resolved)
    _environment(work, resolved)
    arguments = training_arguments(config, work, resolved, evaluate=len(validation) > 0)
    if resolved.zero_stage is not None:
        join_deepspeed(resolved)
    first = arguments.process_index == 0
    shard = shard_of_this_process()
    job = _job_digest(config, work)
    agree_on_batch(resolved)
    name = agree_on_checkpoint(shard, _checkpoint(work, resolved, job) if shard.is_writer else None)
    checkpoint = work.checkpoints / name if name else None
    if first:
        write_json(work.resolved, resolved.to_status())
    if first:
        require_same_base(work, quick=True)
    method = method_of(spec.method)
    load = task.load_quantized if method.info.is_quantized else task.load_base
    best = BestWeights(work, is_writer=first)
    best.restore(checkpoint)
    count, early = spec.training.checkpoint.publish or 0, spec.training.early_stopping is not None
    epochs = EpochWeights(work, resolved, count, may_end_early=early, is_writer=first)
    epochs.restore(checkpoint)
    with freed_at_once() if resolved.zero_stage == 3 else nullcontext():
        loaded = load(base, method.load_dtype(resolved.precision))
        heads = task.head_modules(loaded)
        model = method.make_trainable(loaded, spec, resolved, task.adapter_task_type, heads)
    method.load_start(model, resolved.adapter, work.adapter_start)
    gpu = torch.cuda.is_available()
    task.make_fast(model, packing=resolved.packing)
    if resolved.compile:
        compile_layers(model)
    order = training_order(lengths, resolved.global_batch_size, resolved.total_steps, spec.training.seed)
    tokens = np.cumsum(lengths[order])[resolved.global_batch_size - 1 :: resolved.global_batch_size]
    padded = task.collator(model, 8 if gpu else 1)
    dataset = _dataset(task, rows, order, resolved)
    trainer = FineTuner(
        job=job,
        resolved=resolved,
        task=task,
        progress=Progress(work, resolved, tokens, adjusted.summary if adjusted else None) if first else None,
        interrupt=interrupt,
        shard=shard,
        outbox=outbox_of(work),
        keep_checkpoints=spec.training.checkpoint.keep,
        rows=BatchRows(dataset, resolved, arguments.process_index, data / "train"),
        validation=ValidationLoss(spec.training.early_stopping),
        best=best,
        epochs=epochs,
        model=model,
        args=arguments,
        data_collator=task.pack_collator(model, gpu=gpu) if resolved.packing else padded,
        eval_collator=padded,
        train_dataset=dataset,
        eval_dataset=task.dataset(validation, _evaluation_order(validation)) if len(validation) else None,
    )
    counts = {
        "trainedParameters": get_model_param_count(model, trainable_only=True),
        "totalParameters": method.total_parameters(model),
    }
    # An adapter's weights are all to be trained, whatever has frozen some of them.
    adapter = set(method.trained_names(name for name, _ in model.named_parameters()))
    initial = fingerprints(whole((n, p) for n, p in model.named_parameters() if p.requires_grad or n in adapter))
    trainer.save_weights = partial(save_weights, trainer, base, method)
    if task.compares_with_start:
        trainer.on_prepared = partial(provide_reference, trainer, work)
    with translate_oom(config, work, lambda: f"at step {trainer.state.global_step + 1}"):
        _train(trainer, checkpoint)
    with freed_at_once():
        save_final(trainer, work, base, method, initial)
    remove_offloaded(resolved)
    peaks = peaks_of_all(work, trainer)
    if not first:
        return {}
    done = int(tokens[trainer.state.global_step - 1])
    write_metrics(work, trainer, tokens, checkpoint, time.monotonic() - started, peaks)
    weights = {"final": digest_of_tree(work.final), **({"epochEnds": kept} if (kept := epochs.digests()) else {})}
    return {**result_of(work, trainer, done), **counts, **weights}


def _dataset(task: Task, rows: TokenStore, order: Any, resolved: Resolved) -> OrderedDataset | PackedDataset:  # noqa: ANN401
    """Return the rows in their order, int64 [n], or the packs that they are laid in."""
    if not resolved.packing:
        return task.dataset(rows, order)
    return PackedDataset(
        rows,
        order,
        processes=resolved.world_size,
        most=resolved.gradient_accumulation_steps,
        micro_batch_size=resolved.micro_batch_size,
    )


def _train(trainer: FineTuner, checkpoint: Path | None) -> None:
    """Train to the end.

    Raises:
        StageError: Training was interrupted; a checkpoint was saved.
    """
    try:
        if trainer.on_prepared is not None and not trainer.is_deepspeed_enabled:
            trainer.on_prepared()
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        trainer.interrupt.stepping = False
        if trainer.progress:
            trainer.progress.end()
    if not trainer.is_done:
        step, total = trainer.state.global_step, trainer.resolved.total_steps
        raise StageError(
            Reason.INTERRUPTED, f"interrupted after step {step} of {total}; a checkpoint was saved", "Run it again"
        )


def _check_gpus() -> None:
    """Raise if this machine has GPUs, but fewer than processes."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if 0 < gpus < processes:
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.distributed.numProcPerNode: {processes} processes, but this machine has {gpus} GPUs",
            f"Write numProcPerNode: {gpus}, or leave it out for one process per GPU",
        )


def _environment(work: WorkFolder, resolved: Resolved) -> None:
    """Set the variables that the libraries read, before they are imported."""
    # transformers would report progress too, with fewer fields.
    os.environ[DISABLE_TRANSFORMERS_REPORT] = "TRUE"
    hide_datasets()
    if resolved.zero_stage is None:
        hide_deepspeed()
        return
    cache = work.stage(Stage.TRAIN) / "cache"
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(cache / "torch_extensions"))
    os.environ.setdefault("TRITON_CACHE_DIR", str(cache / "triton"))
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if "RANK" not in os.environ:  # DeepSpeed wants a process group even for one process
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        one = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in one.items()})


def _job_digest(config: JobConfig, work: WorkFolder) -> str:
    """Return a digest of what the weights depend on: the prepared data, the base model and the spec."""
    spec = {name: value for name, value in config.spec.to_api().items() if name not in PUBLISH_FIELDS}
    prepared = read_json(work.stage_marker(Stage.PREPARE))
    return digest_of_json({"name": config.name, "spec": spec, "prepared": prepared})


def _checkpoint(work: WorkFolder, resolved: Resolved, job: str) -> str | None:
    """Return the name of the checkpoint to resume from; None if there is none."""
    checkpoint = newest_usable(work.checkpoints, checkpoint_facts(job, resolved))
    if checkpoint:
        log.info("going on from %s", checkpoint.name)
    return checkpoint.name if checkpoint else None


def _evaluation_order(validation: TokenStore) -> Any:  # noqa: ANN401 - int64 [n]
    """Return the indices of the first validation rows, sorted by length so that batches need little padding."""
    return np.argsort(validation.lengths[:_EVAL_ROWS], kind="stable")


def _require_validation(config: JobConfig, validation: TokenStore) -> None:
    """Raise if the job needs validation rows and there are none."""
    training = config.spec.training
    needs = [
        name
        for name, value in (
            ("earlyStopping", training.early_stopping),
            ("loadBestModelAtEnd", training.load_best_model_at_end),
        )
        if value
    ]
    if needs and not len(validation):
        raise StageError(
            Reason.INVALID_DATASET,
            f"spec.training.{needs[0]} goes by the loss on validation rows, and there are none",
            f"Write spec.dataset.validation: {{fraction: 0.05}}, or leave {' and '.join(needs)} out",
        )
