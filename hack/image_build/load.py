"""Loads images into the node of the embedded cluster: only those it lacks, and only layers that changed."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cluster import containerd, images, registry
from cluster.errors import CannotRunError, ClusterError
from cluster.paths import Paths, cache, locked
from image_build.build import INPUTS
from image_build.engine import Engine
from image_build.errors import BuildError
from image_build.project import ALL_IMAGES, Image

_LABEL = "inputs"


def load(engine: Engine, cluster: str, names: Sequence[str]) -> list[str]:
    """Load images into a cluster's node and return the names of those that it lacked.

    In the node they have the names that the chart gives by default, so nothing is pulled.

    Args:
        engine: What built them.
        cluster: The cluster's name.
        names: Of `ALL_IMAGES`.

    Raises:
        BuildError: An image is not built.
        ClusterError: The cluster does not run, or does not take an image.
    """
    with locked(cache() / "images-load.lock"):
        return [name for name in names if _load(engine, cluster, ALL_IMAGES[name])]


def _load(engine: Engine, cluster: str, image: Image) -> bool:
    """Load one image; return whether the node lacked it."""
    inputs = engine.label(image.reference, INPUTS)
    if not inputs:
        raise BuildError(f"{image.reference} is not built; run: make images")
    if _is_there(cluster, image, inputs):
        return False
    started = time.monotonic()
    print(f"Loading {image.reference}", file=sys.stderr, flush=True)
    try:
        _by_registry(engine, cluster, image)
    except CannotRunError as error:
        print(f"{error} Importing an archive instead", file=sys.stderr, flush=True)
        _by_archive(engine, cluster, image)
    containerd.ctr(Paths(cluster), "images", "label", _in_node(image), f"{_LABEL}={inputs}")
    print(f"Loaded {image.reference} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return True


def _is_there(cluster: str, image: Image, inputs: str) -> bool:
    wanted = f"name=={_in_node(image)},labels.{_LABEL}=={inputs}"
    return bool(containerd.ctr(Paths(cluster), "images", "list", "--quiet", wanted).strip())


def _by_registry(engine: Engine, cluster: str, image: Image) -> None:
    source = f"{registry.registry_address(cluster)}/{image.reference}"
    engine.push(image.reference, source, insecure=True)
    paths = Paths(cluster)
    containerd.ctr(paths, "images", "pull", "--plain-http", source)
    containerd.ctr(paths, "images", "tag", "--force", source, _in_node(image))
    containerd.ctr(paths, "images", "remove", source)


def _by_archive(engine: Engine, cluster: str, image: Image) -> None:
    with tempfile.TemporaryDirectory(prefix="load-", dir=cache()) as folder:
        archive = Path(folder) / "image.tar"
        engine.save(image.reference, archive)
        if not any(name == _in_node(image) for name in images.load(cluster, archive)):
            raise ClusterError(f"The archive of {image.reference} did not bring {_in_node(image)}.")


def _in_node(image: Image) -> str:
    return f"docker.io/library/{image.reference}"
