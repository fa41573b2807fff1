"""docker as the program that builds images."""

from __future__ import annotations

import subprocess
from pathlib import Path

from image_build.commands import answer, failure, run
from image_build.engine import Request


class Docker:
    """docker, with BuildKit."""

    def label(self, image: str, name: str) -> str:
        """Return a label of an image; empty when it or the image is missing."""
        return self.ask("image", "inspect", "--format", f'{{{{index .Config.Labels "{name}"}}}}', image)

    def identity(self, image: str) -> str:
        """Return the id of an image's content; empty when it is missing."""
        return self.ask("image", "inspect", "--format", "{{.Id}}", image)

    def size(self, image: str) -> int:
        """Return the bytes of an image's layers, unpacked."""
        return int(self.ask("image", "inspect", "--format", "{{.Size}}", image))

    def pull(self, image: str) -> str:
        """Pull an image; return why it failed, or nothing."""
        return failure(["docker", "pull", "--quiet", image], timeout=600)

    def build(self, request: Request) -> None:
        """Build an image; unchanged layers are taken from BuildKit's cache."""
        run(["docker", "build", *request.options(), str(request.context)], {"DOCKER_BUILDKIT": "1"})

    def from_folder(self, folder: Path, image: str) -> None:
        """Make an image with one layer from a root file system."""
        with subprocess.Popen(["tar", "-C", str(folder), "-c", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run(["docker", "import", "-", image], stdin=tar.stdout, check=True, stdout=subprocess.DEVNULL)

    def push(self, image: str, target: str, insecure: bool) -> None:  # noqa: ARG002 - the daemon's settings say that
        """Push an image to a registry; layers that are there already are not sent again."""
        run(["docker", "tag", image, target])
        run(["docker", "push", "--quiet", target])

    def save(self, image: str, archive: Path) -> None:
        """Write an image as a docker-archive."""
        run(["docker", "save", "-o", str(archive), image])

    def remove(self, identity: str) -> None:
        """Remove an image that has been replaced, with the layers that only it needs; one that is in use stays."""
        self.ask("image", "rm", identity)

    def prune(self) -> None:
        """Remove all cached layers."""
        run(["docker", "builder", "prune", "--force"])

    def ask(self, *arguments: str) -> str:
        """Return what docker prints; empty when it fails."""
        return answer(["docker", *arguments])
