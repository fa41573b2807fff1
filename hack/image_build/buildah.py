"""buildah as the program that builds images."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cluster.paths import cache
from image_build.commands import answer, failure, run
from image_build.engine import Request

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


class Buildah:
    """buildah, with its own storage in the cache: layers stay for the next build, and only ours are pruned."""

    def __init__(self) -> None:
        root = cache() / "images"
        run = Path("/run/tunesmith-images") if os.geteuid() == 0 else root / "run"
        self._base = ["buildah", "--storage-driver", "overlay", "--root", str(root / "storage"), "--runroot", str(run)]

    def label(self, image: str, name: str) -> str:
        """Return a label of an image; empty when it or the image is missing."""
        template = f'{{{{index .OCIv1.Config.Labels "{name}"}}}}'
        return self.ask("inspect", "--type", "image", "--format", template, _local(image))

    def identity(self, image: str) -> str:
        """Return the id of an image's content; empty when it is missing."""
        return self.ask("images", "--quiet", "--no-trunc", _local(image))

    def size(self, image: str) -> int:
        """Return the bytes of an image's layers, unpacked, as precisely as buildah reports them (three digits)."""
        number, unit = self.ask("images", "--format", "{{.Size}}", _local(image)).split()
        return round(float(number) * _UNITS[unit.upper()])

    def pull(self, image: str) -> str:
        """Pull an image; return why it failed, or nothing."""
        return failure([*self._base, "pull", "--quiet", "--retry", "0", image], timeout=600)

    def build(self, request: Request) -> None:
        """Build an image; unchanged layers are taken from the storage."""
        options = ["--isolation", "chroot", "--network", "host", "--layers", "--pull=never"]
        arguments = {**request.arguments, "BASE_IMAGE": _local(request.arguments["BASE_IMAGE"])}
        request = Request(**{**vars(request), "tag": _local(request.tag), "arguments": arguments})
        run([*self._base, "bud", *options, *request.options(), str(request.context)])

    def from_folder(self, folder: Path, image: str) -> None:
        """Make an image with one layer from a root file system."""
        container = self.ask("from", "scratch")
        run([*self._base, "add", "--quiet", container, str(folder), "/"])
        run([*self._base, "config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container])
        run([*self._base, "commit", "--quiet", "--rm", container, _local(image)])

    def push(self, image: str, target: str, insecure: bool) -> None:
        """Push an image to a registry; layers that are there already are not sent again."""
        # A registry of this machine: what counts is time, and zstd takes a seventh of gzip's.
        fast = ["--tls-verify=false", "--format=oci", "--compression-format=zstd", "--compression-level=1"]
        options = fast if insecure else []
        run([*self._base, "push", "--quiet", *options, _local(image), f"docker://{target}"])

    def save(self, image: str, archive: Path) -> None:
        """Write an image as a docker-archive."""
        run([*self._base, "push", "--quiet", _local(image), f"docker-archive:{archive}:{image}"])

    def remove(self, identity: str) -> None:
        """Remove an image that has been replaced, with the layers that only it needs; one that is in use stays."""
        self.ask("rmi", identity)

    def prune(self) -> None:
        """Remove all cached layers."""
        run([*self._base, "rmi", "--prune"])

    def ask(self, *arguments: str) -> str:
        """Return what buildah prints; empty when it fails."""
        return answer([*self._base, *arguments])


def _local(image: str) -> str:
    """Return a reference as buildah keeps what it built itself: without a registry it is localhost's."""
    return f"localhost/{image}" if re.match(r"tunesmith-[a-z]+:", image) else image
