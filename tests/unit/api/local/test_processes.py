"""A child process gets a signal when its parent is killed."""

import select
import signal
import subprocess
import sys

import pytest

# Prints in the grandchild, whose parent is then killed: the pipe closes when the grandchild has ended too.
PARENT = """
import os, subprocess, sys, time
from functools import partial
from tunesmith_api.local.processes import die_with_parent

code = "import time; print('started', flush=True); time.sleep(60)"
child = subprocess.Popen(
    [sys.executable, "-c", code], preexec_fn=partial(die_with_parent, os.getpid(), int(sys.argv[1]))
)
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_of_a_killed_parent_ends(number):
    command = [sys.executable, "-c", PARENT, str(int(number))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"started\n"
        parent.kill()
        closed = select.poll()  # which, other than select(), takes descriptors from 1024 on
        closed.register(parent.stdout, select.POLLIN)
        assert closed.poll(30_000)
        assert parent.stdout.read() == b""


def test_a_parent_that_is_dead_already_ends_the_child():
    code = "import os; from tunesmith_api.local.processes import die_with_parent; die_with_parent(os.getppid() + 1)"
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 128 + signal.SIGKILL
