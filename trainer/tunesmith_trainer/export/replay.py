"""Asks the server's own code for token ids and answers, in a child process: the packages do not import each other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import onnx_folder
from tunesmith_api.contract import REPLAY_MODULE, SERVER_OUT_OF_MEMORY
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.local.processes import die_with_parent
from tunesmith_api.spec import Precision
from tunesmith_trainer.export.lora.inputs import adapter_beside


def replay(
    artifact: Path,
    precision: Precision,
    requests: Sequence[Mapping[str, Any]],
    *,
    generate: bool = False,
    now: float | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> list[dict[str, Any]]:
    """Return the answers of the server of an artifact.

    Args:
        artifact: The artifact folder.
        precision: The export to serve.
        requests: Bodies of requests with `messages` or `prompt`.
        generate: Whether answers are generated, or only the token ids of the prompts are wanted.
        now: Time for chat templates that write the date, in seconds since the epoch.
        advance: Called with the number of requests just answered.

    Returns:
        For each request `promptIds`, and if generated `text`, `tokenIds` and `finishReason`; or `error`.

    Raises:
        StageError: The server's code cannot open the artifact, or it died.
    """
    lines = [{"request": request, "generate": generate} for request in requests]
    return _ask(artifact, precision, lines, now, advance)


def replay_inputs(
    artifact: Path,
    precision: Precision,
    lines: Sequence[Mapping[str, Any]],
    advance: Callable[[int], None] = lambda count: None,
) -> list[dict[str, Any]]:
    """Return the answers of the server of an artifact whose task has inputs, as Hugging Face's task API has them.

    Args:
        artifact: The artifact folder.
        precision: The export to serve.
        lines: `{inputs, parameters, generate}`: what a request has, and whether an answer is wanted.
        advance: Called with the number of inputs just answered.

    Returns:
        For each line `promptIds`, and if an answer is wanted `outputs`; or `error`.

    Raises:
        StageError: The server's code cannot open the artifact, or it died.
    """
    return _ask(artifact, precision, lines, None, advance)


def _ask(
    artifact: Path,
    precision: Precision,
    requests: Sequence[Mapping[str, Any]],
    now: float | None,
    advance: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Run the server's code over lines, and return its answers."""
    if not requests:
        return []
    command = [sys.executable, "-m", REPLAY_MODULE, "--artifact", str(artifact), "--precision", precision.value]
    command += [] if now is None else ["--now", repr(now)]
    if adapter := adapter_beside(artifact / onnx_folder(precision.value)):
        command += ["--adapter", str(adapter)]
    answers = []
    with tempfile.TemporaryFile("w+b") as lines, tempfile.TemporaryFile("w+b") as errors:
        for request in requests:
            lines.write(json.dumps(request).encode() + b"\n")
        lines.seek(0)
        with subprocess.Popen(
            command,
            stdin=lines,
            stdout=subprocess.PIPE,
            stderr=errors,
            preexec_fn=partial(die_with_parent, os.getpid()),
        ) as process:
            try:
                for line in process.stdout or ():
                    answers.append(json.loads(line))
                    advance(1)
            except BaseException:
                process.kill()
                raise
        errors.seek(0)
        if process.returncode or len(answers) != len(requests):
            raise _failure(process.returncode, errors.read().decode(errors="replace"), precision)
    return answers


def _failure(code: int, printed: str, precision: Precision) -> StageError:
    last = next((line for line in reversed(printed.splitlines()) if line.strip()), f"it ended with exit code {code}")
    message = f"the server's code cannot answer with the {precision.value} export: {last}"
    if code in (SERVER_OUT_OF_MEMORY, -signal.SIGKILL):
        return StageError(Reason.OUT_OF_MEMORY, message, "Give the stage more memory")
    return StageError(
        Reason.EXPORT_FAILED, message, "Use another base model, or another precision in export.precisions"
    )
