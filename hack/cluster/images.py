"""Images in the node: built from one static program, or imported from an archive."""

import hashlib
import io
import json
import platform
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from cluster import containerd
from cluster.paths import Paths

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def load(name: str, archive: Path) -> list[str]:
    """Import a docker-archive or oci-archive into a cluster's node and return the names of what was imported."""
    lines = containerd.ctr(Paths(name), "images", "import", str(archive)).splitlines()
    return [line.split()[1] for line in lines if line.startswith("unpacking ")]


def has(name: str, reference: str) -> bool:
    """Return whether a cluster's node has an image of a full name, such as docker.io/library/tunesmith-trainer:1."""
    return bool(containerd.ctr(Paths(name), "images", "list", "--quiet", f"name=={reference}").strip())


def load_program(name: str, program: Path, reference: str) -> None:
    """Make an image of one static program, which becomes its entry point, unless the node has it.

    The image's label says which program it was made of, so a new one of the same name replaces it.
    """
    digest = hashlib.sha256(program.read_bytes()).hexdigest()[:16]
    load_made(name, reference, digest, lambda path: write_archive(path, program, reference))


def load_made(name: str, reference: str, digest: str, write: Callable[[Path], None]) -> None:
    """Import what `write` writes as a docker-archive, unless the node has it.

    Args:
        name: The cluster's name.
        reference: The image's full name.
        digest: Of what it is made of, at most 63 characters; the image's label, so a new one replaces it.
        write: Writes the archive.
    """
    wanted = f"name=={reference},labels.program=={digest}"
    if containerd.ctr(Paths(name), "images", "list", "--quiet", wanted).strip():
        return
    with tempfile.NamedTemporaryFile(suffix=".tar", dir=Paths(name).root) as file:
        write(Path(file.name))
        load(name, Path(file.name))
    containerd.ctr(Paths(name), "images", "label", reference, f"program={digest}")


def write_archive(path: Path, program: Path, reference: str) -> None:
    """Write a docker-archive with one layer that holds `program` as /PROGRAM's name."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        entry = tarfile.TarInfo(program.name)
        entry.size, entry.mode = program.stat().st_size, 0o755
        with program.open("rb") as content:
            tar.addfile(entry, content)
    write_layer(path, layer.getvalue(), {"Entrypoint": [f"/{program.name}"], "User": "65532:65532"}, reference)


def write_layer(path: Path, layer: bytes, config: dict[str, object], reference: str) -> None:
    """Write a docker-archive with one layer, a tar archive, and what it runs by default."""
    settings = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    files = {
        "layer.tar": layer,
        "config.json": json.dumps(settings).encode(),
        "manifest.json": json.dumps(
            [{"Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"]}]
        ).encode(),
    }
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def remove(name: str, reference: str) -> None:
    """Remove an image from a cluster's node."""
    containerd.ctr(Paths(name), "images", "delete", "--sync", reference)
