"""Training in child processes: runs torchrun, or a single process without it, and explains failures."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from tunesmith_api.contract import MASTER_PORT
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.local.files import read_json, write_json
from tunesmith_api.local.locks import locked
from tunesmith_api.local.processes import die_with_parent
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.train.distributed.interrupt import Interrupt
from tunesmith_trainer.train.distributed.peers import RENDEZVOUS_SECONDS, peer_lost, peer_unreachable, wait_for_master
from tunesmith_trainer.train.distributed.run_folder import AGENT_PID, RUN_FOLDER, RunFolder
from tunesmith_trainer.train.distributed.topology import NodeTopology
from tunesmith_trainer.train.exhausted import out_of_memory
from tunesmith_trainer.train.training_log import read_log

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_KILLED = -9
_ABORTED = -6
# Training in this process may have set them, for DeepSpeed.
_OF_TORCHRUN = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
_PEERS = (Reason.PEER_LOST, Reason.PEER_UNREACHABLE)


def run_processes(
    config: JobConfig,
    work: WorkFolder,
    topology: NodeTopology,
    processes: int,
    interrupt: Interrupt,
    *,
    debug: bool = False,
) -> dict[str, Any]:
    """Train in `processes` child processes on this node, and return rank 0's result ({} on other nodes).

    A single process is started without torchrun, so that nothing in it is distributed.

    Raises:
        StageError: A process failed, or training was interrupted.
    """
    if not topology.is_first:
        wait_for_master(topology.master_addr, topology.master_port or MASTER_PORT)
    folder = RunFolder(Path(tempfile.mkdtemp(prefix="tunesmith-train-")))
    is_alone = processes * topology.nnodes == 1
    worker = ["-m", "tunesmith_trainer.train.distributed.worker", "--work", str(work.root)]
    worker += ["--debug"] if debug else []
    try:
        with locked(folder.lock):
            child = subprocess.Popen(
                [*([sys.executable] if is_alone else _torchrun(folder, topology, processes)), *worker],
                env=_environment(folder, topology, processes),
                start_new_session=True,  # Ctrl-C reaches only the launcher, which asks the workers to stop
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
            code = _wait(child, folder, interrupt)
            if is_alone and code < 0:
                write_json(folder.exit_codes, {"0": code})  # as torchrun does
            if code == 0:
                return dict(read_json(folder.result) or {})
            raise _failure(config, work, folder, code, interrupted=interrupt.requested, several=topology.nnodes > 1)
    finally:
        shutil.rmtree(folder.path, ignore_errors=True)


def _torchrun(folder: RunFolder, topology: NodeTopology, processes: int) -> list[str]:
    """Return the command that runs torchrun, without the program that it starts."""
    arguments = ["--nproc-per-node", str(processes), "--nnodes", str(topology.nnodes), "--max-restarts", "0"]
    arguments += ["--log-dir", str(folder.logs)]  # otherwise torchrun leaves a temporary folder behind
    if topology.nnodes > 1:
        arguments += ["--node-rank", str(topology.node_rank), "--master-addr", topology.master_addr]
        arguments += ["--master-port", str(topology.master_port or MASTER_PORT)]
        arguments += ["--rdzv-conf", f"timeout={RENDEZVOUS_SECONDS}"]
    else:
        endpoint = f"127.0.0.1:{topology.master_port}"  # 0 is any free port
        arguments += ["--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--local-addr", "127.0.0.1"]
    return [sys.executable, "-m", "tunesmith_trainer.train.distributed.agent", *arguments]


def _environment(folder: RunFolder, topology: NodeTopology, processes: int) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in _OF_TORCHRUN}
    env |= {RUN_FOLDER: str(folder.path), AGENT_PID: str(os.getpid())}  # torchrun puts its own process ID there
    env.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // processes)))
    if topology.nnodes == 1 and sys.platform == "linux":
        env.setdefault("GLOO_SOCKET_IFNAME", "lo")  # otherwise gloo resolves the host's name, which may not resolve
    return env


def _wait(child: subprocess.Popen[bytes], folder: RunFolder, interrupt: Interrupt) -> int:
    """Wait for torchrun to exit and return its exit code. Pass an interrupt on to the workers."""
    interrupt.stepping = True
    try:
        while True:
            try:
                return child.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if interrupt.requested:
                    folder.interrupt.touch()
                    if not folder.any_started():  # still waiting for other nodes: no worker would see the file
                        child.kill()
    except BaseException:
        child.kill()  # the workers die with it
        child.wait()
        raise
    finally:
        interrupt.stepping = False


def _failure(
    config: JobConfig, work: WorkFolder, folder: RunFolder, code: int, *, interrupted: bool, several: bool
) -> StageError:
    """Return why the run failed: the error of a worker, or what the workers' exit codes mean.

    Args:
        config: The job.
        work: Its work folder.
        folder: The run folder, with what the workers wrote.
        code: The exit code of torchrun.
        interrupted: Whether training was asked to stop.
        several: Whether the run has other nodes.
    """
    errors = folder.errors()
    causes = [error for error in errors if error.reason not in (Reason.INTERNAL_ERROR, *_PEERS)]
    if causes:
        return causes[0]
    if interrupted:
        return StageError(Reason.INTERRUPTED, "interrupted before the first step", "Run it again to go on")
    codes = read_json(folder.exit_codes) or {}
    if _KILLED in codes.values():
        rank = next(rank for rank, value in codes.items() if value == _KILLED)
        return out_of_memory(config, work, f"process {rank} was killed by the system", _after_step(work))
    if several and (error := _peer_failure(folder, errors, list(codes.values()))):
        return error
    if errors:
        return errors[0]
    what = ", ".join(f"process {rank}: exit code {value}" for rank, value in codes.items()) or f"torchrun: {code}"
    return StageError(
        Reason.INTERNAL_ERROR, f"training ended without a reason ({what})", "Run it again with --debug to see where"
    )


def _after_step(work: WorkFolder) -> str:
    """Return when a process was killed that cannot say it itself, by the training log."""
    entries = read_log(work.training_log)
    return f"after step {entries[-1]['step']}" if entries else "before the first step"


def _peer_failure(folder: RunFolder, errors: list[StageError], codes: list[int]) -> StageError | None:
    """Return the error when another node failed or cannot be reached; None if the cause is on this node."""
    peers = [error for error in errors if error.reason in _PEERS]
    if peers:
        return peers[0]
    if _ABORTED in codes and not errors:  # NCCL's watchdog aborts a process when a collective operation times out
        detail = "a process was aborted while it waited for them"
        return peer_lost(detail) if folder.stepped.exists() else peer_unreachable(detail)
    if not folder.any_started():
        return peer_unreachable("they did not come together in time")
    return None
