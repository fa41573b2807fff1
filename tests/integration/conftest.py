"""What integration tests share."""

from collections.abc import Iterator

import pytest

from support.object_store import ObjectStore


@pytest.fixture
def object_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """An empty object store, which S3 clients of the test and of its child processes find."""
    with ObjectStore().serving() as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield store
