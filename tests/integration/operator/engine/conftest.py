"""A replica of the engine in a namespace of its own, lease included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cluster.client import Cluster
from support.engine_process import EngineProcess, engine

Start = Callable[..., EngineProcess]


@pytest.fixture
def start(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Start]:
    """Start replicas by settings; they watch the test's namespace only, and are ended with the test."""
    with ExitStack() as stack:

        def start_one(pod_name: str = "replica", **settings: Any) -> EngineProcess:
            given = {"namespaces": namespace, "pod_namespace": namespace, "pod_name": pod_name, **settings}
            return stack.enter_context(engine(cluster.environment, tmp_path / f"{pod_name}.log", **given))

        yield start_one
