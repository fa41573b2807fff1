"""Trains work folders in several processes of this machine, one after the other, and reads what they wrote."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.ports import free_port
from support.technique_cells import PROCESSES

TESTS = Path(__file__).resolve().parents[1]


class RunError(Exception):
    """A run has ended with an error.

    Attributes:
        reason: The reason of the product's closed list.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class Runs:
    """Runs the train stage in forks of one process with the libraries of plain torch, or of one with DeepSpeed."""

    def __init__(self, log: Path) -> None:
        """Start no process yet.

        Args:
            log: Where the processes write what they have to say.
        """
        self._log = log.open("w")
        self._processes: dict[bool, subprocess.Popen[str]] = {}

    def __enter__(self) -> "Runs":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._log.close()

    def train(
        self,
        work: Path,
        *,
        processes: int = PROCESSES,
        kill_at: int | None = None,
        stop_after: int | None = None,
        measure: bool = False,
    ) -> list[dict[str, Any]]:
        """Train a work folder by its config.json.

        Args:
            work: The folder.
            processes: Processes that train together.
            kill_at: Step of this attempt after which all processes are killed (SIGKILL).
            stop_after: Step of this attempt after which training is asked to stop, with a checkpoint.
            measure: Whether to follow all tensors.

        Returns:
            What each process took in its steps, `{allocated, atRest, resident, result}` in bytes, and rank 0's result;
            [] where they were killed. `allocated` is the peak of all tensors, `atRest` what is left after a step.

        Raises:
            RunError: A process has failed, or was stopped.
        """
        distributed = json.loads((work / "config.json").read_text())["spec"]["distributed"]
        request: dict[str, Any] = {"work": str(work), "ranks": _ranks(processes), "measure": measure}
        request |= {"killAt": kill_at, "stopAfter": stop_after}
        answer = self._ask(request, deepspeed=distributed.get("strategy", "ddp") != "ddp")
        if kill_at is not None and set(answer["codes"]) == {-9}:
            return []
        self._require(answer, killed=kill_at is not None)
        return list(answer["taken"])

    def initial(self, work: Path, file: Path) -> None:
        """Write the weights that a work folder's job trains, as they are before the first step."""
        self._require(self._ask({"work": str(work), "initial": str(file)}, deepspeed=False))

    def start(self, work: Path) -> None:
        """Write what prepare writes for training to begin with, where the method has such a thing."""
        self._require(self._ask({"work": str(work), "start": True}, deepspeed=False))

    def stage(self, work: Path, name: str, **variables: str) -> None:
        """Run a stage: prepare, train (with one process) or publish, with further variables of the environment."""
        self._require(self._ask({"work": str(work), "ranks": [variables], "stage": name}, deepspeed=False))

    def call(self, module: str, function: str, argument: str, folder: Path) -> None:
        """Call a function of a module with an argument and a folder, which is made."""
        request = {"work": str(folder), "module": module, "function": function, "argument": argument}
        self._require(self._ask(request, deepspeed=False))

    def _require(self, answer: dict[str, Any], *, killed: bool = False) -> None:
        causes = [e for e in answer["errors"] if e["reason"] != "InternalError"] + answer["errors"]
        if causes:
            raise RunError(causes[0]["reason"], causes[0]["message"])
        if any(answer["codes"]) or killed:
            raise RunError("InternalError", f"the processes have ended with {answer['codes']}")

    def _ask(self, request: dict[str, Any], *, deepspeed: bool) -> dict[str, Any]:
        process = self._process(deepspeed)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RunError("InternalError", "the process that forks has ended")
        return dict(json.loads(line))

    def _process(self, deepspeed: bool) -> "subprocess.Popen[str]":
        if deepspeed not in self._processes:
            path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
            self._processes[deepspeed] = subprocess.Popen(
                [sys.executable, "-m", "support.technique_child", *(["--deepspeed"] if deepspeed else [])],
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
            )
        return self._processes[deepspeed]


def _ranks(processes: int) -> list[dict[str, str]]:
    """Return the variables of each process, as torchrun sets them."""
    if processes == 1:
        return [{}]
    size = str(processes)
    shared = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [{**shared, "RANK": str(n), "LOCAL_RANK": str(n), "GLOO_SOCKET_IFNAME": "lo"} for n in range(processes)]


def final_weights(work: Path) -> dict[str, Any]:
    """Return the trained tensors by name."""
    from safetensors.torch import load_file

    weights: dict[str, Any] = {}
    for path in sorted((work / "train" / "final").glob("*.safetensors")):
        weights |= load_file(path)
    return weights


def losses(work: Path) -> list[tuple[int, float, float]]:
    """Return step, loss and gradient norm of each step."""
    lines = (work / "train" / "training_log.jsonl").read_text().splitlines()
    return [(entry["step"], entry["loss"], entry["gradNorm"]) for entry in map(json.loads, lines)]
