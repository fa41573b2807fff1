"""The builder of a run that was killed does nothing more, however early the run was killed."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# The request waits in the pipe while the builder has just begun to start, and its parent is gone.
KILLED_AT_ONCE = """
import os, signal, sys
from pathlib import Path
from tunesmith_trainer.export.exporter import Exporter

exporter = Exporter(Path(sys.argv[1])).__enter__()
exporter._process.stdin.write(sys.argv[2] + chr(10))
exporter._process.stdin.flush()
print(exporter._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def wait_until_gone(process: int) -> None:
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        ended = select.poll()  # which, other than select(), takes descriptors from 1024 on
        ended.register(descriptor, select.POLLIN)
        assert ended.poll(60_000), f"process {process} goes on"
    finally:
        os.close(descriptor)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no signal of a parent's death")
def test_a_builder_without_its_run_exports_nothing(model_of: Callable[[str], Path], tmp_path: Path) -> None:
    output = tmp_path / "onnx"
    request = {"model": str(model_of("LlamaForCausalLM")), "output": str(output), "precision": "fp32", "options": []}
    command = [sys.executable, "-c", KILLED_AT_ONCE, str(tmp_path / "export.log"), json.dumps(request)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL
    wait_until_gone(int(done.stdout))
    assert not output.exists()
