"""What all tests share."""

import gc
import os
import signal

import pytest

pytest_plugins = ["support.cluster_fixtures"]

# Workers and the processes that tests start share the machine's cores: OpenMP's busy-waiting between them costs far
# more than a second thread gains on models this small.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# What tests import and collect stays: looking for garbage in it all the time costs a sixth of a worker's CPU time.
gc.set_threshold(20_000, 20, 50)

# A shell starts its background jobs with SIGINT ignored, and so would be all that tests start and press Ctrl-C on.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each worker of pytest-xdist begin with its share of the slow tests.

    `--dist worksteal` deals the tests out in as many blocks as there are workers, and moves them from the ends of long
    queues later. A slow test that came near the end would run alone.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        block = len(items) * (worker + 1) // workers - len(ordered)
        share = slow[len(slow) * worker // workers : len(slow) * (worker + 1) // workers]
        ordered += share
        ordered += quick[: block - len(share)]
        del quick[: block - len(share)]
    items[:] = ordered


def pytest_collection_finish() -> None:
    """Leave what has been imported and collected out of all later searches for garbage."""
    gc.freeze()
