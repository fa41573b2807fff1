"""Builds the images whose inputs have changed."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from cluster.paths import cache, locked
from image_build.base import base_image
from image_build.context import context, secrets, wheel
from image_build.engine import Engine, Request
from image_build.errors import BuildError
from image_build.project import ALL_IMAGES, Image, dependencies_digest, inputs_digest, layer_digests, version

INPUTS = "dev.tunesmith.inputs"
DEPENDENCIES = "dev.tunesmith.dependencies"
BASE = "dev.tunesmith.base"
ROOM = 10 * 10**9
_NEEDED = {"operator": 1 * 10**9, "serving": 2 * 10**9, "trainer": 14 * 10**9, "hosted": 2 * 10**9}


def build(engine: Engine, names: Sequence[str], base: str, arguments: Mapping[str, str]) -> list[str]:
    """Build the images whose inputs have changed and return their names.

    Args:
        engine: What builds.
        names: Of `ALL_IMAGES`.
        base: The base image, as `base_image` takes it.
        arguments: Build arguments for the Dockerfiles.

    Raises:
        BuildError: A build failed, or the disk is nearly full.
    """
    with locked(cache() / "images.lock"), ExitStack() as stack:
        base = base_image(engine, base)
        identity = engine.identity(base)
        # Before the wheel is made: a file that is changed meanwhile then has its image built once more, not left out.
        images = [ALL_IMAGES[name] for name in names]
        inputs = {image.key: inputs_digest(image, identity, {**arguments, **image.arguments}) for image in images}
        due = [image for image in images if engine.label(image.reference, INPUTS) != inputs[image.key]]
        if not due:
            return []
        wheel_file = stack.enter_context(wheel())
        given = stack.enter_context(secrets())
        for image in due:
            _make_room(engine, image)
            started = time.monotonic()
            print(f"Building {image.reference}", file=sys.stderr, flush=True)
            before = engine.identity(image.reference)
            own = {**arguments, **image.arguments}
            labels = {
                INPUTS: inputs[image.key],
                DEPENDENCIES: dependencies_digest(image, identity, own),
                BASE: base,
                "org.opencontainers.image.version": version(),
            }
            with context(image, wheel_file) as folder:
                known = {"BASE_IMAGE": base, **_declared(image, {**own, **layer_digests(image)})}
                engine.build(Request(folder, folder / "Dockerfile", image.reference, known, given, labels))
            if before:
                engine.remove(before)
            print(f"Built {image.reference} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        return [image.key for image in due]


def _declared(image: Image, arguments: Mapping[str, str]) -> dict[str, str]:
    """Return the arguments that an image's Dockerfile declares."""
    names = {line.split()[1].split("=")[0] for line in image.recipe.splitlines() if line.startswith("ARG ")}
    return {name: value for name, value in arguments.items() if name in names}


def _make_room(engine: Engine, image: Image) -> None:
    """Ensure that a build leaves some of the disk free, by pruning the layer cache if necessary."""
    needed = ROOM + _NEEDED[image.name]
    if shutil.disk_usage(cache()).free < needed:
        engine.prune()
    if (free := shutil.disk_usage(cache()).free) < needed:
        raise BuildError(
            f"{free / 1e9:.0f} GB are free where {cache()} is; building {image.name} wants {needed / 1e9:.0f} GB. "
            "Set TUNESMITH_CACHE to a folder on a larger disk."
        )
