"""What integration tests share."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from support.object_store import ObjectStore
from support.serving_process import ServingProcess
from support.shared import made_once
from support.technique_runs import Runs
from support.tool_models import make_tool_artifact
from support.warm_exporter import warm_exporters


@pytest.fixture
def object_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """An empty object store, which S3 clients of the test and of its child processes find."""
    with ObjectStore().serving() as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield store


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Runs stages in forks of processes that import the libraries once for all tests."""
    with Runs(tmp_path_factory.mktemp("runs") / "log") as runs:
        yield runs


@pytest.fixture(scope="session", autouse=True)
def exporters_begin_at_once() -> Iterator[None]:
    """Let publish fork its exporters from a process that has imported the libraries."""
    with warm_exporters():
        yield


@pytest.fixture(scope="session")
def tool_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned conversations with tools by heart."""
    return made_once(tmp_path_factory, "tools", make_tool_artifact)


@pytest.fixture(scope="session")
def tool_server(tool_artifact: Path) -> Iterator[ServingProcess]:
    """A server of that model."""
    options = ["--model-name", "tiny", "--slots", "4", "--threads", "1", "--precision", "fp32"]
    with ServingProcess(tool_artifact, *options) as process:
        yield process


@pytest.fixture(scope="session")
def tool_client(tool_server: ServingProcess) -> openai.OpenAI:
    """OpenAI's client of that server."""
    return openai.OpenAI(base_url=f"{tool_server.url}/v1", api_key="none", max_retries=0)
