"""Training in several processes: torchrun as a child, its end and its failures."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from tunesmith_api.contract import outcome_of
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.local.locks import locked
from tunesmith_api.local.processes import die_with_parent
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.storage.files import read_json, write_json
from tunesmith_trainer.train.distributed.interrupt import LAUNCHER_LOCK, STEPPED, Interrupt
from tunesmith_trainer.train.distributed.peers import RENDEZVOUS_SECONDS, lost, unreachable, wait_for_master

log = logging.getLogger(__name__)

RUN_FOLDER = "TUNESMITH_RUN_FOLDER"
"""Variable that tells the workers where they and the launcher leave each other files."""

AGENT = "TUNESMITH_AGENT_PID"
"""Variable that tells the workers the process ID of torchrun, which starts them."""

STARTED = "started-"
"""Begin of the names of files in the run folder: a worker of that rank has begun."""

_DEFAULT_PORT = 29500
_POLL_SECONDS = 0.1
_KILLED = -9
_ABORTED = -6
_PEERS = (Reason.PEER_LOST, Reason.PEER_UNREACHABLE)


def run_processes(
    config: JobConfig, work: WorkFolder, options: argparse.Namespace, processes: int, interrupt: Interrupt
) -> dict[str, Any]:
    """Train in `processes` processes on this machine, and return what the first of them did (on other machines: {}).

    Raises:
        StageError: A process failed, or training was interrupted.
    """
    if options.node_rank > 0:
        wait_for_master(options.master_addr, options.master_port or _DEFAULT_PORT)
    folder = Path(tempfile.mkdtemp(prefix="tunesmith-train-"))
    try:
        with locked(folder / LAUNCHER_LOCK):
            child = subprocess.Popen(
                _command(folder, options, processes),
                env=_environment(folder, options, processes),
                start_new_session=True,  # Ctrl-C reaches the launcher, which asks the workers to stop
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
            code = _wait(child, folder, interrupt)
            if code == 0:
                return dict(read_json(folder / "result.json") or {})
            raise _failure(config, folder, code, interrupted=interrupt.requested, several=options.nnodes > 1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _command(folder: Path, options: argparse.Namespace, processes: int) -> list[str]:
    arguments = ["--nproc-per-node", str(processes), "--nnodes", str(options.nnodes), "--max-restarts", "0"]
    arguments += ["--log-dir", str(folder / "logs")]  # else torchrun leaves a folder of its own behind
    if options.nnodes > 1:
        arguments += ["--node-rank", str(options.node_rank), "--master-addr", options.master_addr]
        arguments += ["--master-port", str(options.master_port or _DEFAULT_PORT)]
        arguments += ["--rdzv-conf", f"timeout={RENDEZVOUS_SECONDS}"]
    else:
        endpoint = f"127.0.0.1:{options.master_port}"  # 0 is any free port
        arguments += ["--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--local-addr", "127.0.0.1"]
    arguments += ["-m", "tunesmith_trainer.train.distributed.worker", "--work", str(options.work)]
    if options.debug:
        arguments += ["--debug"]
    return [sys.executable, "-m", "tunesmith_trainer.train.distributed.agent", *arguments]


def _environment(folder: Path, options: argparse.Namespace, processes: int) -> dict[str, str]:
    env = {**os.environ, RUN_FOLDER: str(folder)}
    env.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // processes)))
    if options.nnodes == 1 and sys.platform == "linux":
        env.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else gloo looks the machine's name up, which need not resolve
    return env


def _wait(child: subprocess.Popen[bytes], folder: Path, interrupt: Interrupt) -> int:
    """Wait for torchrun's end and return its exit code; pass an interrupt on to the workers."""
    interrupt.stepping = True
    try:
        while True:
            try:
                return child.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if interrupt.requested:
                    (folder / "interrupt").touch()
                    if not any(folder.glob(f"{STARTED}*")):  # still waiting for other machines: nobody reads it
                        child.kill()
    except BaseException:
        child.kill()  # its workers end with it
        child.wait()
        raise
    finally:
        interrupt.stepping = False


def _failure(config: JobConfig, folder: Path, code: int, *, interrupted: bool, several: bool) -> StageError:
    """Return what made the run fail: the error of one of the processes, or what their exit codes say.

    Args:
        config: The job.
        folder: The run folder, with what the processes have left.
        code: The exit code of torchrun.
        interrupted: Whether we were told to stop.
        several: Whether there are other machines.
    """
    outcomes = [read_json(path) for path in sorted(folder.glob("outcome-*.json"), key=lambda p: p.stat().st_mtime)]
    errors = [StageError(Reason(o["reason"]), o["message"], o["remedy"]) for o in outcomes if o]
    understood = [error for error in errors if error.reason not in (Reason.INTERNAL_ERROR, *_PEERS)]
    if understood:
        return understood[0]
    if interrupted:
        return StageError(Reason.INTERRUPTED, "interrupted before the first step", "Run it again to go on")
    codes = read_json(folder / "failures.json") or {}
    if _KILLED in codes.values():
        from tunesmith_trainer.train.failures import out_of_memory

        rank = next(rank for rank, value in codes.items() if value == _KILLED)
        return out_of_memory(config, f"process {rank} was killed by the system")
    if several and (error := _left_alone(folder, errors, list(codes.values()))):
        return error
    if errors:
        return errors[0]
    what = ", ".join(f"process {rank}: exit code {value}" for rank, value in codes.items()) or f"torchrun: {code}"
    return StageError(
        Reason.INTERNAL_ERROR, f"training ended without a reason ({what})", "Run it again with --debug to see where"
    )


def _left_alone(folder: Path, errors: list[StageError], codes: list[int]) -> StageError | None:
    """Return the error of a machine that others have left alone; None when that is not what has happened."""
    peers = [error for error in errors if error.reason in _PEERS]
    if peers:
        return peers[0]
    if _ABORTED in codes and not errors:  # NCCL's watchdog ends a process that waits in vain
        detail = "a process was aborted while it waited for them"
        return lost(detail) if (folder / STEPPED).exists() else unreachable(detail)
    if not any(folder.glob(f"{STARTED}*")):
        return unreachable("they did not come together in time")
    return None


def report_outcome(folder: Path, rank: str, error: StageError) -> None:
    """Leave a worker's failure for the launcher."""
    write_json(folder / f"outcome-{rank}.json", outcome_of(error))
