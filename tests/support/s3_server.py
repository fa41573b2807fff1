"""A real object store that speaks S3: versitygw over a folder, at an address that pods reach."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster import binaries
from support.operator import wait_until
from support.ports import free_port

BUCKET = "bucket"


@dataclass(frozen=True)
class S3Server:
    """What clients and tests need of it.

    Attributes:
        variables: What clients find in their environment.
        folder: The folder of the bucket: a file for each object.
    """

    variables: dict[str, str]
    folder: Path

    def names(self) -> set[str]:
        """Return the names of all objects in the bucket."""
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}


@contextmanager
def s3_server(folder: Path, address: str) -> Iterator[S3Server]:
    """Serve one empty bucket from a folder, until left.

    Args:
        folder: Where its objects are kept.
        address: The address to listen at.
    """
    bucket, metadata = folder / "objects" / BUCKET, folder / "metadata"
    bucket.mkdir(parents=True)
    metadata.mkdir()
    port = free_port(address)
    variables = {
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "of-tests-only",
        "AWS_ENDPOINT_URL": f"http://{address}:{port}",
        "AWS_REGION": "us-east-1",
    }
    command = [
        str(binaries.object_store()), "--port", f"{address}:{port}", "--quiet",
        "--access", variables["AWS_ACCESS_KEY_ID"], "--secret", variables["AWS_SECRET_ACCESS_KEY"],
        "posix", "--sidecar", str(metadata), str(bucket.parent),
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until("the object store", lambda: _listens(address, port) or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        yield S3Server(variables, bucket)
    finally:
        process.terminate()
        process.wait()


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0
