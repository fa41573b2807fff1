"""A run's values as transformers' `TrainingArguments`."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainingArguments

from tunesmith_api.resolve import Resolved
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.train.compat.hf import use_one_gpu
from tunesmith_trainer.train.distributed.peers import COLLECTIVE_SECONDS
from tunesmith_trainer.train.distributed.zero import deepspeed_config

_SCHEDULERS = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def training_arguments(config: JobConfig, work: WorkFolder, resolved: Resolved, *, evaluate: bool) -> TrainingArguments:
    """Return the arguments. Creating them also initialises the process group.

    Args:
        config: The job.
        work: Its work folder.
        resolved: Values of the run.
        evaluate: Whether there are rows to evaluate on.
    """
    training = config.spec.training
    gpu = torch.cuda.is_available()
    options: dict[str, Any] = {}
    if resolved.zero_stage is not None:
        options["deepspeed"] = deepspeed_config(resolved, training.max_grad_norm, gpu=gpu)
    micro, accumulated = resolved.micro_batch_size, resolved.gradient_accumulation_steps
    if resolved.packing:
        # What a process takes from the data for a step is one item; `FineTuner` computes its packs one by one.
        micro, accumulated = 1, 1
        batches = {"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1}
        if "deepspeed" in options:
            options["deepspeed"] |= {**batches, "train_batch_size": resolved.world_size}
    if resolved.gradient_checkpointing:
        options["activation_checkpointing"] = True
        options["activation_checkpointing_kwargs"] = {"use_reentrant": False}
    arguments = TrainingArguments(
        output_dir=str(work.checkpoints),
        max_steps=resolved.total_steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulated,
        learning_rate=resolved.learning_rate,
        lr_scheduler_type=_SCHEDULERS[training.scheduler],
        warmup_steps=resolved.warmup_steps,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=resolved.precision == "bf16",
        seed=training.seed,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=gpu,
        ddp_find_unused_parameters=False,
        ddp_timeout=COLLECTIVE_SECONDS,
        use_cpu=not gpu,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if evaluate else "no",
        eval_steps=resolved.eval_steps,
        save_strategy="steps",
        save_steps=resolved.checkpoint_steps,
        save_total_limit=None,
        disable_tqdm=True,
        report_to="none",
        **options,
    )
    use_one_gpu(arguments)
    return arguments
