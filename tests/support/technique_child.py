"""`python -m support.technique_child`: trains in child processes that it forks, so that libraries are imported once.

For each line of its input, a request, it writes a line with how the processes ended:

    {work, ranks: [{VARIABLE: value}], killAt?, stopAfter?, measure?}
        ->  {codes, errors: [{reason, message}], taken: [{...}]}
    {work, initial: FILE}  ->  the same; the weights to train, as they begin, are in FILE
    {work, start: true}  ->  the same; what prepare writes for training to begin with is written
    {work, stage: prepare | train | publish}  ->  the same
    {work, module, function, argument}  ->  the same; a function was called with the argument and the folder `work`
"""

import contextlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What training imports when it begins, so that not each child process does.
_LATER = (
    "peft.utils.transformers_weight_conversion",
    "support.allocations",
    "support.plan_child",
    "tunesmith_trainer.models.loading",
    "tunesmith_trainer.tasks.registry",
    "transformers.models.llama.modeling_llama",
)
_LATER_BY_DEEPSPEED = (
    "setuptools",
    "deepspeed.module_inject.auto_ep_layer",
    "deepspeed.ops.op_builder.all_ops",
    "deepspeed.runtime.superoffload.superoffload_stage3",
    "deepspeed.runtime.zero.muon.muon_optimizer",
    "torch._inductor.compile_fx",
    "torch._dynamo.repro.after_dynamo",
)
_GRACE = 5.0  # seconds that the other processes have after one has failed
_LONGEST = 1800.0


def _train(work: Path, report: Path, *, kill_at: int | None, stop_after: int | None, measure: bool) -> None:
    """Train in this process, as the product's workers do."""
    from support.allocations import Allocations
    from support.plan_child import _status
    from tunesmith_api.work_folder import WorkFolder
    from tunesmith_trainer.runtime.job_config import load_config
    from tunesmith_trainer.train.distributed.interrupt import Interrupt
    from tunesmith_trainer.train.fit import fit

    class Ended(Interrupt):
        """Kills the process after a step, as a failure of the machine would, or asks it to stop; notes its memory."""

        steps = 0

        def note_step(self) -> None:
            super().note_step()
            self.steps += 1
            # Of the last step: saving is not part of it.
            taken.update(allocated=allocations.peak, atRest=allocations.current, resident=_status("VmHWM"))
            if self.steps == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if stop_after is not None and self.steps >= stop_after - 1:
                self.requested = True  # it takes effect after the next step

    folder = WorkFolder(work)
    allocations = Allocations()
    taken: dict[str, int] = {}
    with allocations if measure else contextlib.nullcontext():
        result = fit(load_config(folder), folder, Ended())
    report.write_text(json.dumps({**taken, "result": result}))


def _initial(work: Path, file: Path) -> None:
    """Write the weights that the job of a work folder would train, before they are trained, in fp32."""
    from safetensors.torch import save_file

    from tunesmith_api.resolve import resolve
    from tunesmith_api.work_folder import WorkFolder
    from tunesmith_trainer.methods.registry import method_of
    from tunesmith_trainer.models.location import model_path
    from tunesmith_trainer.runtime.job_config import load_config
    from tunesmith_trainer.tasks.registry import task_of

    folder = WorkFolder(work)
    spec = load_config(folder).spec
    method, task, resolved = method_of(spec.method), task_of(spec.task), resolve(spec, 1, 8, False)
    load = task.load_quantized if method.info.is_quantized else task.load_base
    base = load(model_path(folder), method.load_dtype(resolved.precision))
    model = method.make_trainable(base, spec, resolved, task.adapter_task_type)
    method.load_start(model, resolved.adapter, folder.adapter_start)
    weights = {
        plain_name(name): weight.detach().float().clone().contiguous()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }
    save_file(weights, file)


def _start(work: Path) -> None:
    """Write what the method begins with besides the base model, as prepare does."""
    from tunesmith_api.work_folder import WorkFolder
    from tunesmith_trainer.models.location import model_path
    from tunesmith_trainer.models.weights_check import read_architecture
    from tunesmith_trainer.prepare.adapter_start import write_start
    from tunesmith_trainer.runtime.job_config import load_config

    folder = WorkFolder(work)
    base = model_path(folder)
    write_start(load_config(folder), folder, base, read_architecture(base, "the base model").linears)


def _stage(work: Path, name: str) -> None:
    """Run a stage in this process."""
    from tunesmith_api.work_folder import Stage, WorkFolder
    from tunesmith_trainer.prepare.pipeline import prepare
    from tunesmith_trainer.publish import publish
    from tunesmith_trainer.stages.runner import run_stage
    from tunesmith_trainer.stages.train import run_train_stage
    from tunesmith_trainer.train.distributed.topology import NodeTopology

    if name == "train":
        run_train_stage(WorkFolder(work), NodeTopology())
    else:
        run_stage(Stage(name), prepare if name == "prepare" else publish, work)


def plain_name(name: str) -> str:
    """Return a tensor's name without what differs between a model of peft and the file that peft writes."""
    return name.replace(".default", "").removesuffix(".weight")


def _fork(run: Callable[[], None], variables: dict[str, str], errors: Path) -> int:
    from tunesmith_api.failures import StageError
    from tunesmith_api.local.processes import die_with_parent

    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        die_with_parent(parent)
        os.environ.update(variables)
        run()
        code = 0
    except StageError as error:
        errors.write_text(json.dumps({"reason": error.reason.value, "message": error.message}))
    except BaseException as error:
        traceback.print_exc()
        errors.write_text(json.dumps({"reason": "InternalError", "message": f"{type(error).__name__}: {error}"}))
    finally:
        sys.stderr.flush()
        os._exit(code)  # the destructor of a process group can hang


def _wait(pids: list[int]) -> list[int]:
    """Return the exit codes; when one process has failed, the others are ended after a while."""
    codes: dict[int, int] = {}
    deadline = time.monotonic() + _LONGEST
    while len(codes) < len(pids):
        for pid in [pid for pid in pids if pid not in codes]:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                codes[pid] = os.waitstatus_to_exitcode(status)
                if codes[pid]:
                    deadline = min(deadline, time.monotonic() + _GRACE)
        if time.monotonic() > deadline:
            for pid in [pid for pid in pids if pid not in codes]:
                os.kill(pid, signal.SIGKILL)
                codes[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        time.sleep(0.01)
    return [codes[pid] for pid in pids]


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    work = Path(request["work"])
    work.mkdir(parents=True, exist_ok=True)
    ranks = request.get("ranks", [{}])
    errors = [work / f"error-{rank}.json" for rank in range(len(ranks))]
    reports = [work / f"report-{rank}.json" for rank in range(len(ranks))]
    for path in (*errors, *reports):
        path.unlink(missing_ok=True)

    def run(report: Path) -> None:
        if "initial" in request:
            _initial(work, Path(request["initial"]))
        elif "start" in request:
            _start(work)
        elif "stage" in request:
            _stage(work, request["stage"])
        elif "function" in request:
            getattr(importlib.import_module(request["module"]), request["function"])(request["argument"], work)
        else:
            ends = {"kill_at": request.get("killAt"), "stop_after": request.get("stopAfter")}
            _train(work, report, **ends, measure=request.get("measure", False))

    pids = [
        _fork(lambda report=report: run(report), variables, error)  # type: ignore[misc]
        for variables, report, error in zip(ranks, reports, errors, strict=True)
    ]
    codes = _wait(pids)
    return {
        "codes": codes,
        "errors": [json.loads(path.read_text()) for path in errors if path.exists()],
        "taken": [json.loads(path.read_text()) for path in reports if path.exists()],
    }


def main() -> None:
    """Serve lines until the input ends, or the process that asks has ended."""
    from tunesmith_api.local.processes import die_with_parent
    from tunesmith_trainer.runtime.model_libraries import MODELS, importing_models

    die_with_parent(os.getppid())
    # No computation here: its threads would not survive a fork.
    with importing_models(MODELS):
        import accelerate  # noqa: F401
        import peft  # noqa: F401
        import torch  # noqa: F401
        import transformers

        import tunesmith_trainer.train.fit  # noqa: F401

        for name in _LATER:
            importlib.import_module(name)
    if "--deepspeed" in sys.argv:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        import deepspeed  # noqa: F401

        for name in _LATER_BY_DEEPSPEED:
            importlib.import_module(name)

    transformers.logging.set_verbosity_error()
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
