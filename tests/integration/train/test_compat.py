"""The private parts of libraries that `train/compat` relies on are as they were. When this fails, look there."""

import inspect
import subprocess
import sys

import pytest

from tunesmith_trainer.train.compat.accelerate import hide_datasets, hide_deepspeed
from tunesmith_trainer.train.compat.deepspeed import _NVME_OPS, compile_nothing
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


def test_accelerate_asks_one_function_for_datasets(monkeypatch):
    import accelerate.data_loader as data_loader

    monkeypatch.setattr(data_loader, "is_datasets_available", lambda: True)
    hide_datasets()
    assert data_loader.is_datasets_available() is False
    assert "if is_datasets_available():" in inspect.getsource(data_loader.prepare_data_loader)


def test_transformers_saves_and_loads_what_deepspeed_has_by_hooks():
    from transformers import Trainer

    assert parameters(Trainer._save_optimizer_and_scheduler) == ["self", "output_dir"]
    assert "self.model_wrapped.save_checkpoint(" in inspect.getsource(Trainer._save_optimizer_and_scheduler)
    names = ["self", "max_steps", "train_dataloader", "resume_from_checkpoint"]
    assert parameters(Trainer._prepare_for_training) == names
    source = inspect.getsource(Trainer._prepare_for_training)
    assert "deepspeed_load_checkpoint(" in source
    assert "if resume_from_checkpoint is not None:" in source
    loads = inspect.getsource(Trainer._load_optimizer_and_scheduler)
    assert "if not isinstance(self.lr_scheduler, DeepSpeedSchedulerWrapper):" in loads


def in_a_process_of_its_own(code):
    """Run code, which must not fail, and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_libraries_of_models_do_without_what_they_make_no_use_of():
    code = (
        "import sys\n"
        "from tunesmith_trainer.runtime.model_libraries import importing_models\n"
        "with importing_models():\n"
        "    import tunesmith_trainer.train.fit\n"
        "import peft, torch, transformers\n"
        "peft.get_peft_model(torch.nn.Sequential(torch.nn.Linear(2, 2)), peft.LoraConfig(target_modules=['0']))\n"
        "unused = ('bitsandbytes', 'datasets', 'scipy', 'sklearn')\n"
        "print([name for name in unused if name in sys.modules])\n"
        "import bitsandbytes, datasets, scipy, sklearn\n"
    )
    assert in_a_process_of_its_own(code) == "[]"


def test_a_package_that_transformers_has_found_is_imported():
    code = (
        "from transformers.utils.import_utils import is_scipy_available\n"
        "assert is_scipy_available()\n"
        "from tunesmith_trainer.runtime.model_libraries import importing_models\n"
        "with importing_models():\n"
        "    import transformers.loss.loss_utils\n"
        "import sys\n"
        "assert 'scipy.optimize' in sys.modules and 'bitsandbytes' not in sys.modules\n"
    )
    in_a_process_of_its_own(code)


@pytest.mark.slow
def test_deepspeed_has_what_is_reached_for(monkeypatch):
    import deepspeed
    from deepspeed.ops.op_builder import PinMemoryBuilder
    from deepspeed.ops.op_builder.builder import OpBuilder
    from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3 as Stage3
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer as Stage2

    assert "deepspeed_shm_comm" in deepspeed.ops.__compatible_ops__
    assert PinMemoryBuilder().absolute_name() == _NVME_OPS["pin_memory"]
    assert isinstance(OpBuilder._loaded_ops, dict)
    sources = inspect.getsource(Stage3)
    for name in ("_swappable_optimizer_subgroup", "_optimizer_states_and_gradient_swap_in", "_release_swap_buffers"):
        assert f"def {name}(self, sub_group_id" in sources
    for name in ("_optimizer_states_and_gradient_swap_out", "_reassign_or_swap_out_partitioned_parameters"):
        assert f"def {name}(self, sub_group_id" in sources
    assert "def update_lp_params(self)" in inspect.getsource(Stage2)
    monkeypatch.setattr(OpBuilder, "jit_load", OpBuilder.jit_load)
    monkeypatch.setitem(deepspeed.ops.__compatible_ops__, "deepspeed_shm_comm", True)
    compile_nothing()
    with pytest.raises(RuntimeError, match="pin_memory is not built, and nothing is compiled"):
        OpBuilder.load(PinMemoryBuilder())


@pytest.mark.slow
def test_what_offloads_to_a_disk_is_refused_where_its_extension_is_not_built(tmp_path):
    from support.training import train, training_job

    places = {"strategy": "zero3", "offload": "all", "nvmePath": str(tmp_path / "nvme")}
    done = train(training_job(tmp_path / "job", distributed=places))
    assert done.returncode == 10
    assert "spec.distributed.nvmePath: DeepSpeed's extension async_io is not built here" in done.stderr
    assert "Traceback" not in done.stderr
