"""The other machines of a run: who is to blame when they are gone."""

import socket
import threading
import time

import pytest

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.storage.files import write_json
from tunesmith_trainer.train.distributed import peers
from tunesmith_trainer.train.distributed.peers import (
    is_network_error,
    peer_lost,
    peer_unreachable,
    wait_for_master,
    wait_until_complete,
)
from tunesmith_trainer.train.distributed.run_folder import RunFolder
from tunesmith_trainer.train.distributed.torchrun import _failure

CONFIG = JobConfig.model_validate(
    {"name": "tiny", "spec": {"model": {"scratch": {}}, "dataset": {"sources": [{"uri": "./x.jsonl"}]}}}
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[../third_party/gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.7]:1"), True),
        (RuntimeError("NCCL error in: ProcessGroupNCCL.cpp, remote process exited"), True),
        (RuntimeError("Socket Timeout"), True),
        (ConnectionResetError("Connection reset by peer"), True),
        (TimeoutError("timed out"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (8x8 and 4x4)"), False),
        (ValueError("connection closed"), False),
    ],
)
def test_errors_of_the_network_are_known(error, expected):
    assert is_network_error(error) is expected


def test_errors_of_torch_itself_are_known():
    import torch

    assert is_network_error(torch.distributed.DistStoreError("anything"))


def test_the_first_machine_is_waited_for(monkeypatch):
    monkeypatch.setattr(peers, "_POLL_SECONDS", 0.02)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(StageError) as refused:
        wait_for_master("127.0.0.1", port, seconds=0.1)
    assert refused.value.reason is Reason.PEER_UNREACHABLE
    assert "Connection refused" in refused.value.message

    def listen() -> None:
        with socket.create_server(("127.0.0.1", port)) as server:
            server.accept()

    thread = threading.Timer(0.2, listen)
    thread.start()
    wait_for_master("127.0.0.1", port, seconds=20)
    thread.join()


def test_a_name_that_the_dns_does_not_know_yet_is_no_error_yet(monkeypatch):
    monkeypatch.setattr(peers, "_POLL_SECONDS", 0.01)
    answers = [socket.gaierror(-2, "Name or service not known"), None]
    waited = []

    class Connection:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    def connect(address, timeout):
        waited.append(address)
        if (error := answers.pop(0)) is not None:
            raise error
        return Connection()

    monkeypatch.setattr(socket, "create_connection", connect)
    wait_for_master("job-0.service", 29500)
    assert waited == [("job-0.service", 29500)] * 2


def test_the_end_is_waited_for(monkeypatch):
    monkeypatch.setattr(peers, "_POLL_SECONDS", 0.01)
    answers = [False, False, True]
    wait_until_complete(lambda: answers.pop(0))
    started = time.monotonic()
    with pytest.raises(StageError) as refused:
        wait_until_complete(lambda: False, seconds=0.1)
    assert refused.value.reason is Reason.PEER_LOST
    assert time.monotonic() - started < 5


def left_behind(folder, *, errors=(), codes=None, stepped=False, started=True):
    for rank, error in enumerate(errors):
        RunFolder(folder).write_error(str(rank), error)
    if codes is not None:
        write_json(folder / "failures.json", codes)
    for name, there in (("stepped", stepped), ("started-0", started)):
        if there:
            (folder / name).touch()
    return _failure(CONFIG, WorkFolder(folder), RunFolder(folder), 1, interrupted=False, several=True).reason


DIVERGED = StageError(Reason.TRAINING_DIVERGED, "the loss is nan")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"errors": [peer_lost("x")]}, Reason.PEER_LOST),
        ({"errors": [peer_unreachable("x")]}, Reason.PEER_UNREACHABLE),
        ({"errors": [peer_lost("x"), DIVERGED]}, Reason.TRAINING_DIVERGED),
        ({"codes": {"0": -6}, "stepped": True}, Reason.PEER_LOST),
        ({"codes": {"0": -6}}, Reason.PEER_UNREACHABLE),
        ({"codes": {"0": -9}, "stepped": True}, Reason.OUT_OF_MEMORY),
        ({"started": False}, Reason.PEER_UNREACHABLE),
        ({"codes": {"0": 3}}, Reason.INTERNAL_ERROR),
    ],
    ids=lambda value: str(value)[:50],
)
def test_the_one_to_blame(tmp_path, facts, reason):
    assert left_behind(tmp_path, **facts) is reason
