"""Chooses the program that builds images on this machine."""

from __future__ import annotations

import shutil

from cluster import packages
from cluster.errors import CannotRunError
from image_build.buildah import Buildah
from image_build.commands import failure
from image_build.docker import Docker
from image_build.engine import Engine


def engine() -> Engine:
    """Return docker or buildah; if neither is installed, buildah is, where apt-get may be used.

    Raises:
        CannotRunError: There is none.
    """
    if shutil.which("buildah") is None and not failure(["docker", "info"], timeout=20):
        return Docker()
    try:
        packages.ensure({"buildah": "buildah"})
    except CannotRunError as error:
        raise CannotRunError(f"Images are built by buildah or docker, and neither works here. {error}") from error
    return Buildah()
