"""The hosted API of the chart with the small PostgreSQL that it brings for trials."""

from pathlib import Path

import openai
import pytest

from cluster.client import Cluster, condition
from cluster.errors import CannotRunError
from support import postgres_image
from support.hosted_release import NAME, Release, released
from support.s3_server import S3Server

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_its_database_outlives_its_pod_and_an_upgrade(installed: Cluster, store: S3Server, tmp_path: Path) -> None:
    try:
        image = postgres_image.load(str(installed.name))
    except CannotRunError as reason:
        pytest.skip(f"no PostgreSQL: {reason}")
    trial = {"trial": {"enabled": True, "image": image, "size": "1Gi"}}
    with released(installed, store, tmp_path, replicas=1, database=trial) as release:
        key = release.create_project("acme/research")
        file = release.client(key).files.create(file=("rows.jsonl", b'{"messages": []}\n'), purpose="fine-tune")
        assert release.refused() == []

        pod, password = f"{NAME}-database-0", secret(release)
        before = installed.get("Pod", pod, release.namespace)["metadata"]["uid"]
        installed.delete("Pod", pod, release.namespace)
        installed.wait(
            "Pod", pod,
            lambda obj: obj["metadata"]["uid"] != before and condition(obj, "Ready").get("status") == "True",
            release.namespace,
        )  # fmt: skip
        # 503 with Retry-After meanwhile, which the client heeds.
        assert [found.id for found in release.client(key, max_retries=8).files.list()] == [file.id]

        release.upgrade(idleSeconds=901)
        assert secret(release) == password
        assert [found.id for found in release.client(key).files.list()] == [file.id]
        with pytest.raises(openai.AuthenticationError):
            release.client("sk-wrong").files.list()


def secret(release: Release) -> str:
    """Return the database's password, as the API has it."""
    found = release.cluster.get("Secret", f"{NAME}-database", release.namespace)
    return str(found["data"]["password"])
