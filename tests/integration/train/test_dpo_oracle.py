"""The losses of `objective: dpo` are trl's, step by step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.preference_jobs import preference_job, random_pairs
from support.tiny_models import train_tokenizer
from support.training import log_of

STEPS, ROWS, BATCH = 20, 48, 8
TRAINING = {"maxSteps": STEPS, "globalBatchSize": BATCH, "microBatchSize": 4, "learningRate": 0.002}
CASES = [
    ("lora", "sigmoid", {"beta": 0.1}),
    ("full", "sigmoid", {"beta": 0.5}),
    ("lora", "ipo", {"beta": 0.3, "lossType": "ipo"}),
    ("lora", "sigmoid_norm", {"beta": 2.0, "lossType": "sigmoidNorm"}),
    ("lora", "robust", {"beta": 0.1, "lossType": "robust", "labelSmoothing": 0.2}),
]


def trl_log(work: Path, method: str, loss: str, dpo: dict[str, Any]) -> list[dict[str, float]]:
    """Train the same model with trl's DPOTrainer on the same rows in the same order, and return its log."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from tunesmith_api.resolve import resolve
    from tunesmith_api.spec import JobConfig
    from tunesmith_trainer.data.token_store import TokenStore
    from tunesmith_trainer.methods.registry import method_of
    from tunesmith_trainer.tasks.registry import task_for
    from tunesmith_trainer.train.sampler import training_order

    spec = JobConfig.model_validate_json((work / "config.json").read_bytes()).spec
    resolved = resolve(spec, 1, ROWS, has_bf16=False)
    task = task_for(spec)
    loaded = task.load_base(work / "prepare" / "model", "float32")
    model = method_of(method).make_trainable(loaded, spec, resolved, task.adapter_task_type, ())
    store = TokenStore.open(work / "prepare" / "data" / "train")
    order = training_order(task.row_lengths(store), BATCH, STEPS, spec.training.seed)
    pairs = random_pairs(ROWS)
    rows = [dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), pairs[row], strict=True)) for row in order]
    arguments = DPOConfig(
        output_dir=str(work / "trl"),
        max_steps=STEPS,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=BATCH // 4,
        learning_rate=resolved.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=resolved.warmup_steps,
        weight_decay=0.0,
        max_grad_norm=spec.training.max_grad_norm,
        optim="adamw_torch_fused",
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        precompute_ref_log_probs=method == "full",
        loss_type=[loss],
        beta=dpo["beta"],
        label_smoothing=dpo.get("labelSmoothing", 0.0),
        report_to="none",
        disable_tqdm=True,
    )

    class Tokenised(DPOTrainer):  # the rows are tokens already
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    tokenizer = train_tokenizer()
    trainer = Tokenised(model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(("method", "loss", "dpo"), CASES)
def test_each_step_has_the_loss_of_trl(
    method: str, loss: str, dpo: dict[str, Any], tmp_path: Path, run_here: Callable[[Path], Any]
) -> None:
    adapter = {"rank": 4} if method == "lora" else None
    work = preference_job(tmp_path / "job", method=method, dpo=dpo, rows=ROWS, training=TRAINING, adapter=adapter)
    run_here(work)
    ours, theirs = log_of(work), trl_log(work, method, loss, dpo)
    assert len(ours) == len(theirs) == STEPS
    found, expected = (np.array([entry["loss"] for entry in log]) for log in (ours, theirs))
    assert np.abs(found - expected).max() < 1e-5
    assert abs(found[0] - found[-1]) > 0.01, "nothing was learned, so nothing was compared"
    margins = np.array([entry["rewardMargin"] for entry in ours])
    assert np.abs(margins - [entry["rewards/margins"] for entry in theirs]).max() < 1e-4
