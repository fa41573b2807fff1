"""One process of a training run, from the prepared data to the final weights."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import resource
import socket
import time
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
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.methods.registry import method_of
from tunesmith_trainer.models.fingerprint import require_same_base
from tunesmith_trainer.models.location import model_path
from tunesmith_trainer.storage.files import digest_of_tree, read_json, write_json
from tunesmith_trainer.tasks.registry import task_of
from tunesmith_trainer.train.arguments import training_arguments
from tunesmith_trainer.train.checkpointing.checkpoints import newest_usable
from tunesmith_trainer.train.checkpointing.outbox import outbox_of
from tunesmith_trainer.train.checkpointing.shards import agree_on_checkpoint, shard_of_this_process
from tunesmith_trainer.train.compat.accelerate import hide_deepspeed
from tunesmith_trainer.train.distributed.interrupt import Interrupt
from tunesmith_trainer.train.distributed.zero import join_deepspeed
from tunesmith_trainer.train.final import save_final
from tunesmith_trainer.train.moved import fingerprints
from tunesmith_trainer.train.peaks import peaks_of_all
from tunesmith_trainer.train.planned import planned
from tunesmith_trainer.train.progress import Progress
from tunesmith_trainer.train.sampler import training_order
from tunesmith_trainer.train.trainer import FineTuner
from tunesmith_trainer.train.training_log import read_log

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
    _check_gpus()
    has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    resolved = resolve(spec, world, len(rows), has_bf16, planned(work))
    _environment(work, resolved)
    arguments = training_arguments(config, work, resolved, evaluate=len(validation) > 0)
    if resolved.zero_stage is not None:
        join_deepspeed()
    first = arguments.process_index == 0
    shard = shard_of_this_process()
    job = _job_digest(config, work)
    name = agree_on_checkpoint(shard, _checkpoint(work, resolved, job) if shard.is_writer else None)
    checkpoint = work.checkpoints / name if name else None
    if first:
        write_json(work.resolved, resolved.to_status())
    base = model_path(work)
    if first:
        require_same_base(work, quick=True)
    method, task = method_of(spec.method), task_of(spec.task)
    load = task.load_quantized if method.info.is_quantized else task.load_base
    model = method.make_trainable(
        load(base, method.load_dtype(resolved.precision)), spec, resolved, task.adapter_task_type
    )
    method.load_start(model, resolved.adapter, work.adapter_start)
    order = training_order(rows.lengths, resolved.global_batch_size, resolved.total_steps, spec.training.seed)
    tokens = np.cumsum(rows.lengths[order])[resolved.global_batch_size - 1 :: resolved.global_batch_size]
    trainer = FineTuner(
        job=job,
        resolved=resolved,
        task=task,
        progress=Progress(work, resolved, tokens) if first else None,
        interrupt=interrupt,
        shard=shard,
        outbox=outbox_of(work),
        keep_checkpoints=spec.training.checkpoint.keep,
        model=model,
        args=arguments,
        data_collator=task.collator(model, 8 if torch.cuda.is_available() else 1),
        train_dataset=OrderedDataset(rows, order),
        eval_dataset=OrderedDataset(validation, _evaluation_order(validation)) if len(validation) else None,
    )
    counts = {
        "trainedParameters": get_model_param_count(model, trainable_only=True),
        "totalParameters": method.total_parameters(model),
    }
    # An adapter's weights are all to be trained, whatever has frozen some of them.
    adapter = set(method.trained_names(name for name, _ in model.named_parameters()))
    initial = fingerprints((n, p) for n, p in model.named_parameters() if p.requires_grad or n in adapter)
    _train(trainer, checkpoint)
    save_final(trainer, work, base, method, initial)
    peaks = peaks_of_all(work, trainer)
    if not first:
        return {}
    _write_metrics(work, trainer, tokens, checkpoint, time.monotonic() - started, peaks)
    return {**_result(work, resolved, int(tokens[-1])), **counts, "final": digest_of_tree(work.final)}


def _train(trainer: FineTuner, checkpoint: Path | None) -> None:
    """Train to the end.

    Raises:
        StageError: Training was interrupted; a checkpoint was saved.
    """
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        trainer.interrupt.stepping = False
        if trainer.progress:
            trainer.progress.end()
    step, total = trainer.state.global_step, trainer.resolved.total_steps
    if step < total:
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
    about: dict[str, Any] = {"job": job, "strategy": resolved.strategy}
    if resolved.zero_stage is not None:
        about["worldSize"] = resolved.world_size  # its state has one part for each process
    checkpoint = newest_usable(work.checkpoints, about)
    if checkpoint:
        log.info("going on from %s", checkpoint.name)
    return checkpoint.name if checkpoint else None


def _evaluation_order(validation: TokenStore) -> Any:  # noqa: ANN401 - int64 [n]
    """Return the indices of the first validation rows, sorted by length so that batches need little padding."""
    return np.argsort(validation.lengths[:_EVAL_ROWS], kind="stable")


def _result(work: WorkFolder, resolved: Resolved, tokens: int) -> dict[str, Any]:
    """Return the fields of the marker that describe the run."""
    entries = read_log(work.training_log)
    evaluations = [entry["evalLoss"] for entry in entries if "evalLoss" in entry]
    libraries = ["torch", "transformers", "peft", "accelerate", *(["deepspeed"] if resolved.zero_stage else [])]
    return {
        "steps": resolved.total_steps,
        "epochs": resolved.epochs,
        "tokens": tokens,
        "trainLoss": sum(entry["loss"] for entry in entries) / len(entries),
        "evalLoss": evaluations[-1] if evaluations else None,
        "worldSize": resolved.world_size,
        "strategy": resolved.strategy,
        "precision": resolved.precision,
        "resolved": resolved.to_status(),
        "versions": {name: importlib.metadata.version(name) for name in libraries},
    }


def _write_metrics(
    work: WorkFolder,
    trainer: FineTuner,
    tokens: Any,  # noqa: ANN401 - int64 [total_steps]
    start: Path | None,
    seconds: float,
    peaks: dict[str, Any],
) -> None:
    """Write `metrics.json`: the values that differ between two runs of the same job."""
    first = int(start.name.rsplit("-", 1)[1]) if start else 0
    done = int(tokens[-1]) - (int(tokens[first - 1]) if first else 0)
    gpu = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    metrics = {
        "resumedFromStep": first,
        "seconds": round(seconds, 3),
        "tokensPerSecond": round(done / trainer.seconds, 1) if trainer.seconds else None,
        "secondsPerStep": trainer.seconds_per_step(),
        "peakMemoryBytes": peak,
        **peaks,
    }
    write_json(work.stage(Stage.TRAIN) / "metrics.json", metrics)
