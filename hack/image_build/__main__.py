"""`python -m image_build build|load|sizes|push|archive`: the images of images/, built by buildah or docker."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.errors import CannotRunError, ClusterError
from image_build.build import BASE, build
from image_build.choose import engine
from image_build.engine import Engine
from image_build.errors import BuildError
from image_build.load import load
from image_build.project import ALL_IMAGES, IMAGES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code: 1 when it failed, 3 when this machine cannot build images."""
    options = _parser().parse_args(arguments)
    try:
        options.run(engine(), options)
    except (BuildError, ClusterError, CannotRunError) as error:
        print(error, file=sys.stderr)
        return 3 if isinstance(error, CannotRunError) else 1
    return 0


def _build(builder: Engine, options: argparse.Namespace) -> None:
    given = dict(argument.split("=", 1) for argument in options.build_arg)
    built = build(builder, options.images or list(IMAGES), options.base_image, given)
    if not built:
        print("The images are up to date")


def _load(builder: Engine, options: argparse.Namespace) -> None:
    if not load(builder, options.cluster, options.images or list(IMAGES)):
        print("The node has the images")


def _sizes(builder: Engine, options: argparse.Namespace) -> None:
    for name in options.images or IMAGES:
        image = ALL_IMAGES[name].reference
        if not builder.identity(image):
            raise BuildError(f"{image} is not built; run: make images")
        base = builder.size(builder.label(image, BASE))
        size = builder.size(image)
        print(f"{image}: {size / 1e6:.0f} MB, {(size - base) / 1e6:.0f} MB over its base")


def _push(builder: Engine, options: argparse.Namespace) -> None:
    for name in options.images or IMAGES:
        target = f"{options.registry.rstrip('/')}/{ALL_IMAGES[name].reference}"
        builder.push(ALL_IMAGES[name].reference, target, options.insecure)
        print(target)


def _archive(builder: Engine, options: argparse.Namespace) -> None:
    builder.save(ALL_IMAGES[options.image].reference, options.file)


def _name(text: str) -> str:
    if text not in ALL_IMAGES:
        raise argparse.ArgumentTypeError(f"there is no image {text}, but {', '.join(ALL_IMAGES)}")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m image_build", description=__doc__)
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("build", help="build what has changed")
    command.add_argument("images", nargs="*", type=_name, help="all when none is named")
    command.add_argument("--base-image", default="", help="a slim Python 3.11, or debootstrap")
    command.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="as in the Dockerfiles")
    command.set_defaults(run=_build)

    command = commands.add_parser("load", help="bring images into the embedded cluster")
    command.add_argument("images", nargs="*", type=_name)
    command.add_argument("--cluster", default="full", help="its name (default: full)")
    command.set_defaults(run=_load)

    command = commands.add_parser("sizes", help="print how large each image is, and over its base image")
    command.add_argument("images", nargs="*", type=_name)
    command.set_defaults(run=_sizes)

    command = commands.add_parser("push", help="push images to a registry")
    command.add_argument("registry", help="registry and path, such as example.azurecr.io/ml")
    command.add_argument("images", nargs="*", type=_name)
    command.add_argument("--insecure", action="store_true", help="speak HTTP")
    command.set_defaults(run=_push)

    command = commands.add_parser("archive", help="write an image as a docker-archive")
    command.add_argument("image", choices=[*ALL_IMAGES])
    command.add_argument("file", type=Path)
    command.set_defaults(run=_archive)
    return parser


if __name__ == "__main__":
    sys.exit(main())
