"""The interface to a program that builds images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Request:
    """One build.

    Attributes:
        context: The build context.
        dockerfile: The Dockerfile.
        tag: The name and tag of the result.
        arguments: Build arguments.
        secrets: Files that the build may read and the image does not keep, by their ids.
        labels: Labels of the result.
    """

    context: Path
    dockerfile: Path
    tag: str
    arguments: Mapping[str, str]
    secrets: Mapping[str, Path]
    labels: Mapping[str, str]

    def options(self) -> list[str]:
        """Return the options that docker and buildah share."""
        options = ["-f", str(self.dockerfile), "-t", self.tag]
        options += [f"--build-arg={name}={value}" for name, value in self.arguments.items()]
        options += [f"--secret=id={name},src={path}" for name, path in self.secrets.items()]
        return options + [f"--label={name}={value}" for name, value in self.labels.items()]


class Engine(Protocol):
    """A program that builds images. An image is named by its reference."""

    def label(self, image: str, name: str) -> str:
        """Return a label of an image; empty when it or the image is missing."""

    def identity(self, image: str) -> str:
        """Return the id of an image's content; empty when it is missing."""

    def size(self, image: str) -> int:
        """Return the bytes of an image's layers, unpacked."""

    def pull(self, image: str) -> str:
        """Pull an image; return why it failed, or nothing."""

    def build(self, request: Request) -> None:
        """Build an image."""

    def from_folder(self, folder: Path, image: str) -> None:
        """Make an image with one layer from a root file system."""

    def push(self, image: str, target: str, insecure: bool) -> None:
        """Push an image to a registry; layers that are there already are not sent again."""

    def save(self, image: str, archive: Path) -> None:
        """Write an image as a docker-archive."""

    def remove(self, identity: str) -> None:
        """Remove an image that has been replaced, with the layers that only it needs; one that is in use stays."""

    def prune(self) -> None:
        """Remove all cached layers."""
