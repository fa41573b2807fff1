"""What all tests share."""

import gc
import os
import signal
import tempfile

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


@pytest.fixture(scope="session", autouse=True)
def temporary_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let what processes leave that are killed, as many here are, go with pytest's own folders of earlier runs."""
    folder = str(tmp_path_factory.mktemp("temporary"))
    os.environ["TMPDIR"] = tempfile.tempdir = folder


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the first worker of pytest-xdist the tests that mostly wait, and let each begin with its slow ones.

    `--dist worksteal` deals the tests out in as many blocks as there are workers, and moves them from the ends of long
    queues later. What waits for an API server side by side leaves the cores idle; a slow test that begins last is
    waited for by all.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers == 1:
        return
    waiting = [item for item in items if item.get_closest_marker("integration")]
    busy = [item for item in items if not item.get_closest_marker("integration")]
    slow = [item for item in busy if item.get_closest_marker("slow")]
    quick = [item for item in busy if not item.get_closest_marker("slow")]
    heads = [sorted(waiting, key=lambda item: item.get_closest_marker("slow") is None)]
    heads += [slow[len(slow) * n // (workers - 1) : len(slow) * (n + 1) // (workers - 1)] for n in range(workers - 1)]
    ordered: list[pytest.Item] = []
    for number, head in enumerate(heads, start=1):
        filler = max(0, len(items) * number // workers - len(ordered) - len(head))
        ordered += head + quick[:filler]
        del quick[:filler]
    items[:] = ordered + quick


def pytest_collection_finish() -> None:
    """Leave what has been imported and collected out of all later searches for garbage."""
    gc.freeze()
