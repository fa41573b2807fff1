"""The hosted service for tests, with a base model whose server is awake. Its jobs run nowhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.fake_backend import FakeBackend
from support.hosted import BASE, Hosted, serving
from support.serving_process import ServingProcess
from support.tiny_models import make_artifact
from tunesmith_hosted.database.tables import ServedBase
from tunesmith_hosted.models.names import base_workspace


@contextmanager
def serving_base(folder: Path, backend: FakeBackend | None = None, **given: Any) -> Iterator[Hosted]:
    """Serve until the end of the context. The base model is `BASE`."""
    workspace = base_workspace("tiny")
    artifact = make_artifact(folder / "model")
    options = ("--precision", "fp32", "--model-name", workspace, "--slots", "4", "--threads", "1")
    bases = [{**BASE, "model": {"uri": "/models/tiny"}, "artifact": str(artifact)}]
    with (
        ServingProcess(artifact, *options) as server,
        serving(folder, backend or FakeBackend(), bases=bases, **given) as service,
    ):
        url = f"{server.url}/v1"

        async def wake() -> None:
            async with service.sessions.begin() as session:
                row = ServedBase(name="tiny", workspace=workspace, wanted="awake", endpoint=url)
                row.last_used_at = int(time.time())
                session.add(row)

        service.run(wake())
        yield service
