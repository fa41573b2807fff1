"""The registry on this machine: what is pushed there can be pulled by pods."""

import hashlib
import json
import tarfile
import urllib.request
import uuid
from pathlib import Path

import pytest

from cluster import binaries, images
from cluster.client import Cluster
from cluster.registry import registry_address
from support.probe_pods import pod

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]  # the registry may have to be built first


def push(address: str, name: str, archive: Path) -> None:
    """Push an archive of `images.write_archive` as ADDRESS/NAME:1."""
    base = f"http://{address}/v2/{name}"
    with tarfile.open(archive) as tar:
        layer, settings = (tar.extractfile(file).read() for file in ("layer.tar", "config.json"))  # type: ignore[union-attr]
    entries = []
    for content, kind in ((settings, "container.image.v1+json"), (layer, "image.rootfs.diff.tar")):
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        place = send("POST", f"{base}/blobs/uploads/").headers["Location"]
        send("PUT", f"{place}&digest={digest}", content, "application/octet-stream")
        entries.append({"mediaType": f"application/vnd.docker.{kind}", "digest": digest, "size": len(content)})
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": entries[0], "layers": entries[1:]}
    send("PUT", f"{base}/manifests/1", json.dumps(manifest).encode(), kind)


def send(method: str, url: str, body: bytes | None = None, kind: str = ""):
    return urllib.request.urlopen(
        urllib.request.Request(url, data=body, method=method, headers={"Content-Type": kind} if kind else {})
    )


def test_a_pod_runs_what_was_pushed(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    address, name = registry_address(), f"made-{uuid.uuid4().hex[:8]}"
    assert registry_address() == address
    images.write_archive(tmp_path / "image.tar", binaries.probe(), f"{name}:1")
    push(address, name, tmp_path / "image.tar")
    made = pod("made", "exit", "0", image=f"{address}/{name}:1")
    cluster.create(made, namespace)
    cluster.wait("Pod", "made", lambda obj: obj["status"]["phase"] == "Succeeded", namespace)
    images.remove("full", f"{address}/{name}:1")
