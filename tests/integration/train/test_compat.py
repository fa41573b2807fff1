"""The private parts of libraries that `train/compat` relies on are as they were. When this fails, look there."""

import inspect

import pytest

from tunesmith_trainer.train.compat.accelerate import hide_deepspeed
from tunesmith_trainer.train.compat.hf import HookedTrainer, use_one_gpu


def parameters(function):
    return list(inspect.signature(function).parameters)


def test_transformers_calls_the_hooks_of_its_trainer():
    from transformers import Trainer

    assert parameters(Trainer._get_num_items_in_batch) == ["self", "batch_samples", "device"]
    assert parameters(Trainer._save_checkpoint) == ["self", "model", "trial"]
    callers = inspect.getsource(Trainer)
    for hook in ("_get_num_items_in_batch", "_save_checkpoint"):
        assert f"self.{hook}(" in callers
        assert hook in vars(HookedTrainer)


def test_accumulation_is_told_to_accelerate_and_asked_for_by_deepspeed():
    from accelerate import Accelerator
    from accelerate.state import GradientState
    from transformers import Trainer

    assert "_set_sync_gradients(" in inspect.getsource(Trainer._run_epoch)
    assert parameters(GradientState._set_sync_gradients) == ["self", "sync_gradients"]
    assert "sync_gradients=self.sync_gradients" in inspect.getsource(Accelerator.backward)


def test_transformers_spreads_by_the_number_of_gpus(tmp_path):
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    arguments._n_gpu = 4
    assert arguments.n_gpu == 4
    use_one_gpu(arguments)
    assert arguments.n_gpu == 1
    assert "self.args.n_gpu > 1" in inspect.getsource(Trainer)


def test_accelerate_asks_one_function_for_deepspeed(monkeypatch):
    import accelerate.utils.other as other

    monkeypatch.setattr(other, "is_deepspeed_available", lambda: True)
    hide_deepspeed()
    assert other.is_deepspeed_available() is False
    assert "is_deepspeed_available()" in inspect.getsource(other.extract_model_from_parallel)


@pytest.mark.slow
def test_deepspeed_has_what_is_reached_for():
    import deepspeed
    from deepspeed.runtime.engine import DeepSpeedEngine

    assert "deepspeed_shm_comm" in deepspeed.ops.__compatible_ops__
    assert "exclude_frozen_parameters" in parameters(DeepSpeedEngine._zero3_consolidated_16bit_state_dict)
