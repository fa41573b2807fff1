"""Locks on files: one holder at a time, and none after its end."""

import subprocess
import sys
import threading

from tunesmith_api.local.locks import is_locked, locked, try_lock


def test_a_lock_has_one_holder(tmp_path):
    path = tmp_path / "lock"
    assert not is_locked(path)
    with locked(path):
        assert is_locked(path)
        with path.open("a") as other:
            assert not try_lock(other)
    assert not is_locked(path)
    with path.open("a") as other:
        assert try_lock(other)
        assert is_locked(path)


def test_the_next_one_waits(tmp_path):
    path, order = tmp_path / "lock", []

    def hold() -> None:
        with locked(path):
            order.append("second")

    second = threading.Thread(target=hold)
    with locked(path):
        second.start()
        second.join(0.2)
        order.append("first")
    second.join(300)
    assert order == ["first", "second"]


def test_a_killed_holder_leaves_it_free(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tunesmith_api.local.locks import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert is_locked(path)
        holder.kill()
        holder.wait(300)
        assert not is_locked(path)
