"""Exporters that begin at once: forks of a process that has imported the model builder, which takes seconds.

`python -m support.warm_exporter` is that process. For each byte that it gets on its standard input, which is a socket,
with three files, it forks an exporter that has them as its standard input, output and error, and answers with its pid.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from unittest import mock

TESTS = Path(__file__).resolve().parents[1]


class WarmExporters:
    """Stands for the module `subprocess` where exporters are started."""

    PIPE = subprocess.PIPE

    def __init__(self) -> None:
        """Start no process yet."""
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def Popen(self, command: list[str], *, stderr: IO[str], **_: Any) -> "_Exporter":  # noqa: N802 - as it is called
        """Start an exporter."""
        if self._socket is None:
            self._socket, theirs = socket.socketpair()
            path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
            environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "support.warm_exporter"],
                stdin=theirs,
                env={**environment, "GIT_DIR": os.devnull},
            )
            theirs.close()
        requests_in, requests_out = os.pipe()
        answers_in, answers_out = os.pipe()
        socket.send_fds(self._socket, [b"x"], [requests_in, answers_out, stderr.fileno()])
        os.close(requests_in)
        os.close(answers_out)
        pid = int.from_bytes(self._socket.recv(8), "little")
        return _Exporter(pid, os.fdopen(requests_out, "w", encoding="utf-8"), os.fdopen(answers_in, encoding="utf-8"))

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class _Exporter:
    """What is used of `subprocess.Popen`."""

    def __init__(self, pid: int, stdin: IO[str], stdout: IO[str]) -> None:
        self.pid, self.stdin, self.stdout = pid, stdin, stdout

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def communicate(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()
        self.stdout.read()
        self.stdout.close()
        self.wait()

    def wait(self) -> int:
        """Wait until it has ended; its exit code is not known here."""
        while Path(f"/proc/{self.pid}").exists():
            time.sleep(0.005)
        return -signal.SIGKILL


@contextlib.contextmanager
def warm_exporters() -> Iterator[None]:
    """Let all exporters of this process be forks."""
    exporters = WarmExporters()
    with mock.patch("tunesmith_trainer.export.exporter.subprocess", exporters):
        yield
    exporters.close()


def main() -> None:
    """Fork exporters until the socket is closed."""
    from tunesmith_api.local.processes import die_with_parent
    from tunesmith_trainer.export import genai_builder
    from tunesmith_trainer.runtime.model_libraries import MODELS, importing_models

    die_with_parent(os.getppid())
    with importing_models(MODELS):
        from onnxruntime_genai.models import builder  # noqa: F401

        import tunesmith_trainer.export.corrections
        import tunesmith_trainer.export.ragged
        import tunesmith_trainer.export.streamed_builder  # noqa: F401
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # which reaps them
    connection = socket.socket(fileno=os.dup(0))
    while True:
        _, files, _, _ = socket.recv_fds(connection, 1, 3)
        if not files:
            return
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with_parent(parent)
            for number, file in enumerate(files):
                os.dup2(file, number)
                os.close(file)
            connection.close()
            os._exit(genai_builder.main())
        for file in files:
            os.close(file)
        connection.send(pid.to_bytes(8, "little"))


if __name__ == "__main__":
    main()
