"""The operator in the full cluster, once for all tests."""

import fcntl

import pytest

from cluster.errors import CannotRunError
from cluster.paths import cache
from support.cluster import Cluster
from support.install import install


@pytest.fixture(scope="session")
def installed(full_cluster: Cluster) -> Cluster:
    """The full cluster with this checkout's images in it and its chart installed; skips where that cannot be had."""
    # The workers of pytest-xdist take turns; the second finds it done.
    with (cache() / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            install(full_cluster)
        except CannotRunError as reason:
            pytest.skip(str(reason))
    return full_cluster
